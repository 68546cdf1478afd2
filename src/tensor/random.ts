import { check } from "../errors.js";
import { show } from "../options.js";

/** Throws unless `seed` is an integer in 0..2^53-1. */
export function checkSeed(seed: number): number {
  check(
    Number.isSafeInteger(seed) && seed >= 0,
    "ERR_SWITCHYARD_USAGE",
    () => `seed: expected an integer from 0 to ${Number.MAX_SAFE_INTEGER}, got ${show(seed)}`,
  );
  return seed;
}

/** Four 32-bit words; JSON keeps them exactly. */
type RandomState = readonly [number, number, number, number];

/**
 * Random numbers of the host program: shuffling, sampling, seeds of tensors. xoshiro128** (Blackman and
 * Vigna 2018), its state filled by splitmix from the seed; only 32-bit integers, so the same everywhere.
 */
export class Random {
  private readonly s: Uint32Array;

  constructor(seed: number) {
    checkSeed(seed);
    const words = splitmix(seed);
    this.s = Uint32Array.of(words(), words(), words(), words());
  }

  /** An integer in 0..2^32-1. */
  next(): number {
    const { s } = this;
    const s1 = s[1];
    const a = s[2] ^ s[0];
    const b = s[3] ^ s1;
    s[0] ^= b;
    s[1] ^= a;
    s[2] = a ^ (s1 << 9);
    s[3] = rotateLeft(b, 11);
    return Math.imul(rotateLeft(Math.imul(s1, 5), 7), 9) >>> 0;
  }

  /** In [0, 1), with 53 random bits. */
  float(): number {
    return ((this.next() >>> 5) * 2 ** 26 + (this.next() >>> 6)) * 2 ** -53;
  }

  /** An integer in 0..n-1 without bias, for n up to 2^32. */
  below(n: number): number {
    check(Number.isInteger(n) && n > 0 && n <= 2 ** 32, "ERR_SWITCHYARD_USAGE", () => `below: expected an integer from 1 to 2^32, got ${n}`);
    const limit = 2 ** 32 - (2 ** 32 % n);
    let draw = this.next();
    while (draw >= limit) draw = this.next();
    return draw % n;
  }

  /** A seed for another generator or a tensor op: an integer in 0..2^53-1. */
  seed(): number {
    return (this.next() >>> 11) * 2 ** 32 + this.next();
  }

  /** Permutes `items` in place (Fisher and Yates); every order is equally likely. */
  shuffle<T extends { [index: number]: unknown; readonly length: number }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const item = items[i];
      items[i] = items[j];
      items[j] = item;
    }
    return items;
  }

  get state(): RandomState {
    return [this.s[0], this.s[1], this.s[2], this.s[3]];
  }

  set state(words: RandomState) {
    check(
      words.length === 4 && words.every((w) => w >>> 0 === w) && words.some((w) => w !== 0),
      "ERR_SWITCHYARD_USAGE",
      () => `random state: expected four integers in 0..2^32-1, not all zero, got [${words.join(", ")}]`,
    );
    this.s.set(words);
  }
}

function rotateLeft(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}

/** splitmix (Steele, Lea and Flood 2014) with 32-bit words: successive words of a well mixed sequence. */
function splitmix(seed: number): () => number {
  let state = seed >>> 0;
  const high = Math.floor(seed / 2 ** 32);
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state ^ Math.imul(high, 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0xd35a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
}
