/** The same as search.ts for formats with a minimum: y = scale q + floor with q from 0. Both are fitted together. */
interface Range {
  scale: number;
  floor: number;
}

/** Ends of the range that is spread over the levels, in shares of the largest element's distance from the floor. */
const shares = [0.8, 0.86, 0.9, 0.94, 0.97, 1, 1.03, 1.07, 1.12, 1.2];
const turns = 4;

/** Level of x; levels are the integers from 0 to `top`. */
function level(x: number, floor: number, inverse: number, top: number): number {
  const k = Math.floor((x - floor) * inverse + 0.5);
  return k > 0 ? (k < top ? k : top) : 0;
}

/**
 * Scale and floor for elements [from, to). `negative`: the floor may not be above 0, because formats store its negative without a sign. `curvature`, if
 * given, gets sum w q^2 at `at`.
 */
export function fitRange(x: Float64Array, w: Float64Array, from: number, to: number, top: number, negative: boolean, curvature?: Float64Array, at = 0): Range {
  let [low, high, sw, swx, swxx] = [x[from], x[from], 0, 0, 0];
  for (let i = from; i < to; i++) {
    low = Math.min(low, x[i]);
    high = Math.max(high, x[i]);
    sw += w[i];
    swx += w[i] * x[i];
    swxx += w[i] * x[i] * x[i];
  }
  if (negative) low = Math.min(low, 0);
  let best = { scale: 0, floor: low };
  if (curvature !== undefined) curvature[at] = 0;
  if (high === low) return best;
  let least = Infinity;
  const consider = (inverse: number, start: number): boolean => {
    let [swq, swqq, swxq] = [0, 0, 0];
    for (let i = from; i < to; i++) {
      const q = level(x[i], start, inverse, top);
      const wq = w[i] * q;
      swq += wq;
      swqq += wq * q;
      swxq += wq * x[i];
    }
    const determinant = sw * swqq - swq * swq;
    let scale = swqq > 0 ? swxq / swqq : 0;
    let floor = 0;
    if (determinant > 1e-12 * sw * swqq) {
      const free = (swqq * swx - swq * swxq) / determinant;
      if (!negative || free < 0) [scale, floor] = [(sw * swxq - swq * swx) / determinant, free];
    }
    const error = swxx - 2 * (scale * swxq + floor * swx) + scale * scale * swqq + 2 * scale * floor * swq + floor * floor * sw;
    if (!(scale > 0 && error < least)) return false;
    least = error;
    best = { scale, floor };
    if (curvature !== undefined) curvature[at] = swqq;
    return true;
  };
  for (const share of shares) consider(top / (share * (high - low)), low);
  for (let turn = 0; turn < turns; turn++) if (best.scale === 0 || !consider(1 / best.scale, best.floor)) break;
  return best;
}

/** Levels of elements [from, to). */
export function encodeRange(x: Float64Array, from: number, to: number, top: number, { scale, floor }: Range, codes: Uint8Array): void {
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = from; i < to; i++) codes[i] = level(x[i], floor, inverse, top);
}

/** Weighted squared error of a scale and floor, and with these levels the best floor. */
export function rangeError(x: Float64Array, w: Float64Array, from: number, to: number, top: number, scale: number, floor: number): { error: number; floor: number } {
  const inverse = scale === 0 ? 0 : 1 / scale;
  let [error, sw, rest] = [0, 0, 0];
  for (let i = from; i < to; i++) {
    const residue = x[i] - scale * level(x[i], floor, inverse, top);
    const difference = residue - floor;
    error += w[i] * difference * difference;
    sw += w[i];
    rest += w[i] * residue;
  }
  return { error, floor: rest / sw };
}
