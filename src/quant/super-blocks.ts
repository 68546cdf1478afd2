import { f16Of } from "./block.js";
import { encodeLevels, fitScale, type Levels, scaleError } from "./search.js";
import { encodeRange, fitRange, rangeError } from "./search-range.js";

/**
 * Blocks of 256 elements in sub-blocks with integer scales of their own, below one or two f16 numbers of the block: each sub-block is fitted alone, the
 * block's scale to those of its sub-blocks, weighted with what their errors cost; then each sub-block takes the integer that is best for it, and last
 * the block's scale the least-squares value for all levels.
 */
const elements = 256;

/** What is written: y = (d s) q, or y = (d s) q - dmin m. */
interface SuperBlock {
  d: number;
  dmin: number;
  /** One per sub-block. */
  scales: Int16Array;
  minima: Int16Array;
  /** One per element. */
  codes: Uint8Array;
}

const fitted = new Float64Array(elements);
const costs = new Float64Array(elements);
const floors = new Float64Array(elements);
const weights = new Float64Array(elements);
const block: SuperBlock = { d: 0, dmin: 0, scales: new Int16Array(16), minima: new Int16Array(16), codes: new Uint8Array(elements) };

/** Sub-blocks of `size` elements whose scales are among the levels `scales`. */
export function fitScales(x: Float64Array, w: Float64Array, size: number, levels: Levels, scales: Levels): SuperBlock {
  const count = elements / size;
  const [lowest, highest] = [scales.nearest[0], scales.nearest[scales.nearest.length - 1]];
  for (let j = 0; j < count; j++) fitted[j] = fitScale(x, w, j * size, (j + 1) * size, levels, costs, j);
  const choose = (d: number): number => {
    block.d = d;
    let total = 0;
    for (let j = 0; j < count; j++) {
      const nearest = d === 0 ? 0 : Math.min(highest, Math.max(lowest, Math.round(fitted[j] / d)));
      let least = Infinity;
      for (let s = Math.max(lowest, nearest - 1); s <= Math.min(highest, nearest + 1); s++) {
        const error = scaleError(x, w, j * size, (j + 1) * size, levels, d * s);
        if (error >= least) continue;
        least = error;
        block.scales[j] = s;
      }
      encodeLevels(x, j * size, (j + 1) * size, levels, d * block.scales[j], block.codes);
      total += least;
    }
    return total;
  };
  const first = f16Of(fitScale(fitted, costs, 0, count, scales));
  const error = choose(first);
  let [xq, qq] = [0, 0];
  for (let i = 0; i < elements; i++) {
    const q = block.scales[Math.floor(i / size)] * levels.values[block.codes[i]];
    xq += w[i] * q * x[i];
    qq += w[i] * q * q;
  }
  const refitted = qq > 0 ? f16Of(xq / qq) : first;
  if (refitted !== first && choose(refitted) > error) choose(first);
  return block;
}

/** Sub-blocks of `size` elements with levels from 0 to `top`, whose scales and minima are integers from 0 to `most`. */
export function fitRanges(x: Float64Array, w: Float64Array, size: number, top: number, scales: Levels): SuperBlock {
  const count = elements / size;
  const most = scales.nearest[scales.nearest.length - 1];
  for (let j = 0; j < count; j++) {
    const { scale, floor } = fitRange(x, w, j * size, (j + 1) * size, top, true, costs, j);
    [fitted[j], floors[j], weights[j]] = [scale, -floor, 0];
    for (let i = j * size; i < (j + 1) * size; i++) weights[j] += w[i];
  }
  const integer = (value: number, unit: number): number => (unit === 0 ? 0 : Math.min(most, Math.max(0, Math.round(value / unit))));
  const choose = (d: number, dmin: number): number => {
    [block.d, block.dmin] = [d, dmin];
    let total = 0;
    for (let j = 0; j < count; j++) {
      const [from, to] = [j * size, (j + 1) * size];
      const near = integer(fitted[j], d);
      let least = Infinity;
      const consider = (s: number, m: number): number => {
        const { error, floor } = rangeError(x, w, from, to, top, d * s, -dmin * m);
        if (error < least) {
          least = error;
          [block.scales[j], block.minima[j]] = [s, m];
        }
        return integer(-floor, dmin);
      };
      for (let s = Math.max(0, near - 1); s <= Math.min(most, near + 1); s++) {
        const m = integer(floors[j], dmin);
        const better = consider(s, m);
        if (better !== m) consider(s, better);
      }
      encodeRange(x, from, to, top, { scale: d * block.scales[j], floor: -dmin * block.minima[j] }, block.codes);
      total += least;
    }
    return total;
  };
  const [d, dmin] = [f16Of(fitScale(fitted, costs, 0, count, scales)), f16Of(fitScale(floors, weights, 0, count, scales))];
  const error = choose(d, dmin);
  let [aa, ab, bb, ax, bx] = [0, 0, 0, 0, 0];
  for (let i = 0; i < elements; i++) {
    const j = Math.floor(i / size);
    const [a, b] = [block.scales[j] * block.codes[i], -block.minima[j]];
    aa += w[i] * a * a;
    ab += w[i] * a * b;
    bb += w[i] * b * b;
    ax += w[i] * a * x[i];
    bx += w[i] * b * x[i];
  }
  const determinant = aa * bb - ab * ab;
  if (!(determinant > 1e-9 * aa * bb)) return block;
  const [refitted, refittedMin] = [f16Of((bb * ax - ab * bx) / determinant), f16Of((aa * bx - ab * ax) / determinant)];
  if ((refitted !== d || refittedMin !== dmin) && refitted > 0 && refittedMin >= 0 && choose(refitted, refittedMin) > error) choose(d, dmin);
  return block;
}
