import { type BlockCodec, extreme, f16Of, putF16, reciprocal, roundAway } from "./block.js";
import { encodeLevels, fitScale, integers } from "./search.js";
import { encodeRange, fitRange } from "./search-range.js";

/**
 * The formats of 32 elements with one f16 scale d, and for the "_1" ones an f16 minimum m: y = d (q - 2^(bits-1)), or y = d q + m.
 * Four bits of q are nibbles (elements 0..15 low, 16..31 high), a fifth stands in a bit field before them.
 */
const count = 32;
const f = Math.fround;

function nibbles(bits: 4 | 5, hasMinimum: boolean): BlockCodec {
  const high = hasMinimum ? 4 : 2;
  const low = bits === 5 ? high + 4 : high;
  const half = 2 ** (bits - 1);
  const top = 2 ** bits - 1;
  const levels = integers(-half, half - 1);
  const codes = new Uint8Array(count);

  /** The scale, and minimum, are there. */
  const putCodes = (bytes: Uint8Array, at: number): void => {
    bytes.fill(0, at + high, at + low + 16);
    for (let i = 0; i < count; i++) {
      bytes[at + low + (i & 15)] |= (codes[i] & 15) << (i < 16 ? 0 : 4);
      if (bits === 5) bytes[at + high + (i >>> 3)] |= (codes[i] >>> 4) << (i & 7);
    }
  };

  return {
    encode(values, from, bytes, at) {
      let d: number;
      let minimum = 0;
      if (hasMinimum) {
        let maximum = values[from];
        minimum = maximum;
        for (let i = 1; i < count; i++) {
          maximum = Math.max(maximum, values[from + i]);
          minimum = Math.min(minimum, values[from + i]);
        }
        d = f(f(maximum - minimum) / top);
        putF16(bytes, at + 2, minimum);
      } else d = f(extreme(values, from, count) / -half);
      putF16(bytes, at, d);
      const inverse = reciprocal(d);
      const offset = hasMinimum ? 0.5 : half + 0.5;
      for (let i = 0; i < count; i++) codes[i] = Math.min(top, Math.trunc(f(f(f(values[from + i] - minimum) * inverse) + offset)));
      putCodes(bytes, at);
    },
    fit(x, w, bytes, at) {
      if (hasMinimum) {
        const { scale, floor } = fitRange(x, w, 0, count, top, false);
        const range = { scale: f16Of(scale), floor: f16Of(floor) };
        encodeRange(x, 0, count, top, range, codes);
        putF16(bytes, at, range.scale);
        putF16(bytes, at + 2, range.floor);
      } else {
        const d = f16Of(fitScale(x, w, 0, count, levels));
        encodeLevels(x, 0, count, levels, d, codes);
        putF16(bytes, at, d);
      }
      putCodes(bytes, at);
    },
  };
}

export const q4_0 = nibbles(4, false);
export const q4_1 = nibbles(4, true);
export const q5_0 = nibbles(5, false);
export const q5_1 = nibbles(5, true);

/** f16 d, 32 signed bytes: y = d q. */
export const q8_0: BlockCodec = {
  encode(values, from, bytes, at) {
    const d = f(Math.abs(extreme(values, from, count)) / 127);
    putF16(bytes, at, d);
    const inverse = reciprocal(d);
    for (let i = 0; i < count; i++) bytes[at + 2 + i] = roundAway(f(values[from + i] * inverse));
  },
};
