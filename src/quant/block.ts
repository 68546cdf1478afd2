import { f16ToF32, f32ToF16 } from "../tensor/half.js";

/** One quantised format, block by block. Positions count bytes in `bytes` and elements in `values`; the caller checks that the block is there. */
export interface BlockCodec {
  /** Absent for formats that products read: engine/reference/blocks.ts has their layouts. */
  decode?(bytes: Uint8Array, at: number, values: Float32Array, to: number): void;
  /** Writes the block of `values[from...]`, which are finite, each rounded to the nearest; absent for formats that are only read. */
  encode?(values: Float32Array, from: number, bytes: Uint8Array, at: number): void;
  /** Writes the block of elements x with the least sum of w (x - y)^2 that a search finds; absent where there is nothing to search for. */
  fit?(x: Float64Array, w: Float64Array, bytes: Uint8Array, at: number): void;
}

export function putF16(bytes: Uint8Array, at: number, value: number): void {
  const [half] = f32ToF16(Float32Array.of(value));
  bytes[at] = half & 255;
  bytes[at + 1] = half >>> 8;
}

/** The nearest binary16 number. */
export const f16Of = (value: number): number => f16ToF32(f32ToF16(Float32Array.of(value)))[0];

/** Sets bits `shift` and `shift + 1` of 256 codes where `pairAt` finds them, and zeros are. */
export function putPairs(bytes: Uint8Array, at: number, codes: Uint8Array, shift = 0): void {
  for (let i = 0; i < 256; i++) bytes[at + (i >>> 7) * 32 + (i & 31)] |= ((codes[i] >>> shift) & 3) << (((i >>> 5) & 3) * 2);
}

/** What a scale must be multiplied with instead of dividing by it: the reciprocal in f32, and 0 for 0. */
export const reciprocal = (d: number): number => (d === 0 ? 0 : Math.fround(1 / d));

/** The element of a block that is furthest from 0, with its sign; the first of several. */
export function extreme(values: Float32Array, from: number, count: number): number {
  let found = values[from];
  for (let i = 1; i < count; i++) if (Math.abs(values[from + i]) > Math.abs(found)) found = values[from + i];
  return found;
}

/** Nearest integer, halves away from zero. */
export const roundAway = (x: number): number => Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
