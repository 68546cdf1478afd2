import { e2m1Doubled } from "../engine/reference/blocks.js";
import { type BlockCodec, extreme } from "./block.js";
import { encodeLevels, levelsOf, scaleError } from "./search.js";

const f = Math.fround;

/** The nibbles in rising order of their values; -0 is left out. */
const rising = Uint8Array.of(15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7);
const levels = levelsOf(Array.from(rising, (nibble) => e2m1Doubled[nibble]));
const codes = new Uint8Array(32);

/** 2^(e - 128), half of what an E8M0 byte stands for. */
const halfE8m0 = (e: number): number => 2 ** (e - 128);

/** 32 elements: an E8M0 scale, 16 bytes of nibbles (elements 0..15 low, 16..31 high). */
export const mxfp4: BlockCodec = {
  encode(values, from, bytes, at) {
    const largest = Math.abs(extreme(values, from, 32));
    // 6, the largest value of E2M1, has exponent 2. The logarithm is rounded to f32 as the reference does.
    const e = largest === 0 ? 0 : Math.max(0, Math.floor(f(Math.log2(largest))) - 2 + 127);
    const scale = halfE8m0(e);
    bytes[at] = e;
    bytes.fill(0, at + 1, at + 17);
    for (let i = 0; i < 32; i++) {
      let best = 0;
      let error = Infinity;
      for (let q = 0; q < 16; q++) {
        const distance = Math.abs(f(scale * e2m1Doubled[q] - values[from + i]));
        if (distance >= error) continue;
        best = q;
        error = distance;
      }
      bytes[at + 1 + (i & 15)] |= best << (i < 16 ? 0 : 4);
    }
  },
  /** The scale is a power of two: the least that takes the largest element, or one of the next smaller ones, which cut it off. */
  fit(x, w, bytes, at) {
    let largest = 0;
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(x[i]));
    const highest = largest === 0 ? 0 : Math.min(254, Math.max(0, Math.ceil(Math.log2(largest / 12)) + 128));
    let least = Infinity;
    for (let e = highest; e >= Math.max(0, highest - 2); e--) {
      const error = scaleError(x, w, 0, 32, levels, halfE8m0(e));
      if (error >= least) continue;
      least = error;
      bytes[at] = e;
    }
    encodeLevels(x, 0, 32, levels, halfE8m0(bytes[at]), codes);
    for (let i = 0; i < 16; i++) bytes[at + 1 + i] = rising[codes[i]] | (rising[codes[i + 16]] << 4);
  },
};

/** Half of an unsigned E4M3 number with bias 7; the all-ones pattern is 0. */
function halfUe4m3(byte: number): number {
  const exponent = (byte >>> 3) & 15;
  const fraction = (byte & 7) / 8;
  if (byte === 0x7f) return 0;
  return exponent === 0 ? fraction * 2 ** -7 : (1 + fraction) * 2 ** (exponent - 8);
}

/** 64 elements: four scales, then for each 8 bytes of nibbles (elements 0..7 low, 8..15 high). A tensor's own scale is another tensor. */
export const nvfp4: BlockCodec = {
  decode(bytes, at, values, to) {
    for (let i = 0; i < 64; i++) {
      const block = i >>> 4;
      const nibble = (bytes[at + 4 + block * 8 + (i & 7)] >>> ((i & 8) >>> 1)) & 15;
      values[to + i] = halfUe4m3(bytes[at + block]) * e2m1Doubled[nibble];
    }
  },
};

/**
 * MXFP4 as Hugging Face's gpt-oss stores it: `blocks` of 16 bytes, each byte two consecutive elements (the even one in its low nibble),
 * and a tensor of E8M0 `scales`, one per block. Returns 32 values per scale.
 */
export function decodeMxfp4Pairs(blocks: Uint8Array, scales: Uint8Array): Float32Array {
  const values = new Float32Array(scales.length * 32);
  for (let i = 0; i < values.length; i++) values[i] = halfE8m0(scales[i >>> 5]) * e2m1Doubled[(blocks[i >>> 1] >>> ((i & 1) * 4)) & 15];
  return values;
}
