import type { Tensor } from "../../tensor/tensor.js";
import { floats } from "./arrays.js";

/*
 * The counter-based generator of all engines: 32 random bits from (seed, index) alone, so that any thread can
 * make any element and a backward pass can make a mask again. Two rounds of an invertible 32-bit mixer with a
 * key between them: word = mix(mix(index + key0) ^ key1), keys from the two halves of the seed. Multiplications
 * modulo 2^32 only: the same bits in TypeScript, in C++ and in SIMD lanes. Not for cryptography.
 */

/** Shifts and multipliers found by search for low avalanche bias (github.com/skeeto/hash-prospector). */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0xd35a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

/** The two keys of a seed in 0..2^53-1. */
function randomKeys(seed: number): { key0: number; key1: number } {
  const key0 = mix((seed >>> 0) + 0x9e3779b9);
  return { key0, key1: mix(key0 ^ mix(Math.floor(seed / 2 ** 32) + 0x85ebca6b)) };
}

/** 32 random bits for each index; indices are taken modulo 2^32. */
export function randomBits(seed: number): (index: number) => number {
  const { key0, key1 } = randomKeys(seed);
  return (index) => mix(mix(index + key0) ^ key1);
}

/** In [0, 1), from the upper 24 bits: exact in f32. */
function unit(bits: number): number {
  return (bits >>> 8) * 2 ** -24;
}

export function dropout(out: Tensor, x: Tensor, rate: number, seed: number): void {
  const O = floats(out);
  const X = floats(x);
  const bits = randomBits(seed);
  const factor = 1 / (1 - rate);
  for (let i = 0; i < X.length; i++) O[i] = unit(bits(i)) < rate ? 0 : X[i] * factor;
}

export function uniform(out: Tensor, low: number, high: number, seed: number): void {
  const O = floats(out);
  const bits = randomBits(seed);
  for (let i = 0; i < O.length; i++) {
    O[i] = low + (high - low) * unit(bits(i));
    if (O[i] >= high) O[i] = low;
  }
}

/** Elements 2i and 2i+1 are the cosine and sine of one draw of Box and Muller. */
export function normal(out: Tensor, std: number, seed: number): void {
  const O = floats(out);
  const bits = randomBits(seed);
  for (let i = 0; i < O.length; i += 2) {
    const radius = std * Math.sqrt(-2 * Math.log(1 - unit(bits(i))));
    const angle = 2 * Math.PI * unit(bits(i + 1));
    O[i] = radius * Math.cos(angle);
    if (i + 1 < O.length) O[i + 1] = radius * Math.sin(angle);
  }
}
