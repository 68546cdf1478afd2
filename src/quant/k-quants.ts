import { type BlockCodec, putF16, putPairs } from "./block.js";
import { integers } from "./search.js";
import { fitRanges, fitScales } from "./super-blocks.js";

/**
 * The formats of 256 elements whose sub-blocks of 16 or 32 have small integer scales of their own, below one f16 scale d of the
 * block: y = (d s) q, or y = (d s) q - dmin m. Two-bit fields are those of `pairAt`.
 */
const [fourBits, sixBits, signedSixBits, eightBits] = [integers(0, 15), integers(0, 63), integers(-32, 31), integers(-128, 127)];
const [threeBitLevels, sixBitLevels] = [integers(-4, 3), integers(-32, 31)];

/** 16 bytes of 4-bit scales and minima, 64 of 2-bit q, d, dmin. */
export const q2_K: BlockCodec = {
  fit(x, w, bytes, at) {
    const { d, dmin, scales, minima, codes } = fitRanges(x, w, 16, 3, fourBits);
    bytes.fill(0, at, at + 80);
    for (let j = 0; j < 16; j++) bytes[at + j] = scales[j] | (minima[j] << 4);
    putPairs(bytes, at + 16, codes);
    putF16(bytes, at + 80, d);
    putF16(bytes, at + 82, dmin);
  },
};

/** 32 bytes of high bits (a clear one takes 4 away), 64 of 2-bit q, 12 of 6-bit scales, d. */
export const q3_K: BlockCodec = {
  fit(x, w, bytes, at) {
    const { d, scales, codes } = fitScales(x, w, 16, threeBitLevels, signedSixBits);
    bytes.fill(0, at, at + 108);
    for (let i = 0; i < 256; i++) bytes[at + (i & 31)] |= (codes[i] >>> 2) << (i >>> 5);
    putPairs(bytes, at + 32, codes);
    for (let j = 0; j < 16; j++) {
      const s = scales[j] + 32;
      bytes[at + 96 + (j & 7)] |= (s & 15) << (j < 8 ? 0 : 4);
      bytes[at + 104 + (j & 3)] |= (s >>> 4) << ((j >>> 2) * 2);
    }
    putF16(bytes, at + 108, d);
  },
};

/** 6-bit scales and minima of 8 sub-blocks, in 12 bytes: four scales, four minima, then the low nibbles of the other four of each. */
function putScalesAndMinima(bytes: Uint8Array, at: number, scales: Int16Array, minima: Int16Array): void {
  for (let j = 0; j < 4; j++) {
    bytes[at + j] = scales[j] | ((scales[j + 4] >>> 4) << 6);
    bytes[at + j + 4] = minima[j] | ((minima[j + 4] >>> 4) << 6);
    bytes[at + j + 8] = (scales[j + 4] & 15) | ((minima[j + 4] & 15) << 4);
  }
}

/** d, dmin, 12 bytes of scales and minima of 8 sub-blocks, for five bits 32 bytes of fifth bits, 128 of nibbles. */
function scaledNibbles(bits: 4 | 5): BlockCodec {
  const low = bits === 5 ? 48 : 16;
  return {
    fit(x, w, bytes, at) {
      const { d, dmin, scales, minima, codes } = fitRanges(x, w, 32, 2 ** bits - 1, sixBits);
      putF16(bytes, at, d);
      putF16(bytes, at + 2, dmin);
      putScalesAndMinima(bytes, at + 4, scales, minima);
      bytes.fill(0, at + 16, at + low + 128);
      for (let i = 0; i < 256; i++) {
        bytes[at + low + (i >>> 6) * 32 + (i & 31)] |= (codes[i] & 15) << (((i >>> 5) & 1) * 4);
        if (bits === 5) bytes[at + 16 + (i & 31)] |= (codes[i] >>> 4) << (i >>> 5);
      }
    },
  };
}

export const q4_K = scaledNibbles(4);
export const q5_K = scaledNibbles(5);

/** 128 bytes of nibbles (in each half of the block, elements l and l + 64), 64 of 2-bit upper parts, 16 signed scales, d. */
export const q6_K: BlockCodec = {
  fit(x, w, bytes, at) {
    const { d, scales, codes } = fitScales(x, w, 16, sixBitLevels, eightBits);
    bytes.fill(0, at, at + 192);
    for (let i = 0; i < 256; i++) bytes[at + (i >>> 7) * 64 + (i & 63)] |= (codes[i] & 15) << (((i >>> 6) & 1) * 4);
    putPairs(bytes, at + 128, codes, 4);
    bytes.set(scales, at + 192);
    putF16(bytes, at + 208, d);
  },
};
