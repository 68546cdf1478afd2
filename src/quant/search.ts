/**
 * Rounding to the levels of a format with the least weighted squared error, sum of w (x - y)^2, where w is what an error of that element costs. For
 * given levels the best scale is a least-squares fit; for a given scale the best levels are the nearest. Several scales are tried, and from the best one
 * the two steps alternate (Lloyd 1982, "Least squares quantization in PCM").
 */

/** What an element can be before the scale: rising integers. */
export interface Levels {
  values: Float64Array;
  /** The level nearest to v, and its code: entry floor(2 v) + offset, cut off at both ends. Midpoints are multiples of 1/2. */
  nearest: Float64Array;
  codes: Uint8Array;
  offset: number;
  /** Level that the largest element may be rounded to: the scales to try. */
  trials: Float64Array;
}

/** Share of the outermost level. Below 1 levels are left unused, above it the largest elements are cut off for the sake of the others. */
const shares = [0.72, 0.78, 0.83, 0.88, 0.92, 0.96, 1, 1.04, 1.08, 1.13, 1.2, 1.3];
/** Turns of the two steps after the trials. */
const turns = 3;

export function levelsOf(values: ArrayLike<number>): Levels {
  const [low, high] = [values[0], values[values.length - 1]];
  const codes = Uint8Array.from({ length: 2 * (high - low) + 1 }, (_, i) => {
    const v = low + (i + 0.5) / 2;
    let code = 0;
    for (let c = 1; c < values.length; c++) if (Math.abs(values[c] - v) < Math.abs(values[code] - v)) code = c;
    return code;
  });
  // Where the ends differ, which side the largest element is put on matters.
  const ends = low === 0 || low === -high ? [high] : [low, high];
  return { values: Float64Array.from(values), nearest: Float64Array.from(codes, (c) => values[c]), codes, offset: -2 * low, trials: Float64Array.from(ends.flatMap((end) => shares.map((share) => share * end))) };
}

/** The integers from `low` to `high`. */
export const integers = (low: number, high: number): Levels => levelsOf(Array.from({ length: high - low + 1 }, (_, i) => low + i));

/** Entry of v = x / scale, of which twice the inverse is given. */
function entry(x: number, inverse2: number, { nearest, offset }: Levels): number {
  const k = Math.floor(x * inverse2) + offset;
  return k > 0 ? (k < nearest.length ? k : nearest.length - 1) : 0;
}

const sums = new Float64Array(2);

/** sums = (sum w x q, sum w q^2) with the levels that are nearest for this scale; returns the error that the best scale for them saves. */
function project(x: Float64Array, w: Float64Array, from: number, to: number, levels: Levels, inverse2: number): number {
  const { nearest } = levels;
  let xq = 0;
  let qq = 0;
  for (let i = from; i < to; i++) {
    const q = nearest[entry(x[i], inverse2, levels)];
    const wq = w[i] * q;
    xq += wq * x[i];
    qq += wq * q;
  }
  sums[0] = xq;
  sums[1] = qq;
  return qq > 0 ? (xq * xq) / qq : 0;
}

/** The scale for elements [from, to); 0 where all are 0. `curvature`, if given, gets sum w q^2 at `at`: what an error of the scale costs. */
export function fitScale(x: Float64Array, w: Float64Array, from: number, to: number, levels: Levels, curvature?: Float64Array, at = 0): number {
  let peak = 0;
  for (let i = from; i < to; i++) peak = Math.max(peak, Math.abs(x[i]));
  let [scale, saved, cost] = [0, 0, 0];
  const consider = (inverse2: number): boolean => {
    const gain = project(x, w, from, to, levels, inverse2);
    if (!(gain > saved)) return false;
    [scale, saved, cost] = [sums[0] / sums[1], gain, sums[1]];
    return true;
  };
  if (peak > 0) for (const trial of levels.trials) consider((2 * trial) / peak);
  for (let turn = 0; turn < turns; turn++) if (scale === 0 || !consider(2 / scale)) break;
  if (curvature !== undefined) curvature[at] = cost;
  return scale;
}

/** Codes of elements [from, to) for a scale. */
export function encodeLevels(x: Float64Array, from: number, to: number, levels: Levels, scale: number, codes: Uint8Array): void {
  const inverse2 = scale === 0 ? 0 : 2 / scale;
  for (let i = from; i < to; i++) codes[i] = levels.codes[entry(x[i], inverse2, levels)];
}

/** Weighted squared error of that. */
export function scaleError(x: Float64Array, w: Float64Array, from: number, to: number, levels: Levels, scale: number): number {
  const inverse2 = scale === 0 ? 0 : 2 / scale;
  let error = 0;
  for (let i = from; i < to; i++) {
    const difference = x[i] - scale * levels.nearest[entry(x[i], inverse2, levels)];
    error += w[i] * difference * difference;
  }
  return error;
}
