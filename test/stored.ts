import { byteLength, type StoredDType, storedBlocks } from "../src/tensor/dtype.js";
import { Random } from "../src/tensor/random.js";

/** Bytes of the f16 numbers of one block. */
const halves: Partial<Record<StoredDType, readonly number[]>> = {
  q4_0: [0], q4_1: [0, 2], q5_0: [0], q5_1: [0, 2], q8_0: [0], q2_k: [80, 82], q3_k: [108], q4_k: [0, 2], q5_k: [0, 2], q6_k: [208], iq4_nl: [0], iq4_xs: [0], f16: [0], bf16: [0],
};

/** Blocks of any bits, but with scales of the order of 1 (those of small blocks also tiny, zero and negative). */
export function randomBlocks(type: StoredDType, elements: number, seed: number): Uint8Array<ArrayBuffer> {
  const random = new Random(seed);
  const bytes = Uint8Array.from({ length: byteLength(type, elements) }, () => random.below(256));
  const size = storedBlocks[type][1];
  for (let at = 0; at < bytes.length; at += size) {
    // Upper bytes: f16 from 2^-12 to 2^-4, bf16 from 2^-7 to 2^0, with either sign; one block in 32 is zero or subnormal.
    for (const half of halves[type] ?? []) {
      const odd = random.below(32) === 0 && size < 256;
      bytes[at + half + 1] = (random.below(2) * 128) | (odd ? random.below(2) : type === "bf16" ? 60 + random.below(4) : 12 + random.below(32));
    }
    if (type === "mxfp4") bytes[at] = 118 + random.below(8);
    if (type !== "fp8_e4m3" && type !== "fp8_e5m2") continue;
    // A scale of either sign, as bf16 has it above, and elements that are finite.
    bytes[at + 3] = (random.below(2) * 128) | (60 + random.below(4));
    const last = type === "fp8_e4m3" ? 0x7f : 0x7c;
    for (let i = at + 4; i < at + size; i++) if ((bytes[i]! & last) === last) bytes[i] = 0;
  }
  return bytes;
}
