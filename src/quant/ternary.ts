import { pairAt } from "../engine/reference/blocks.js";
import { f16At } from "../tensor/half.js";
import { type BlockCodec, extreme, putF16, putPairs, reciprocal, roundAway } from "./block.js";

/** Values -d, 0, d (BitNet and its kin), 256 to a block, the f16 d at its end. */
const f = Math.fround;

/** The 256 digits 0, 1, 2 of a block to write. */
function digits(values: Float32Array, from: number, d: number): Uint8Array {
  const inverse = reciprocal(d);
  return Uint8Array.from({ length: 256 }, (_, i) => roundAway(f(values[from + i] * inverse)) + 1);
}

/** How TQ1_0 spreads a block over its bytes: `bytes` of them from byte `at` hold elements from `first`, each as many as it has digits. */
const parts = [
  { at: 0, bytes: 32, first: 0, digits: 5 },
  { at: 32, bytes: 16, first: 160, digits: 5 },
  { at: 48, bytes: 4, first: 240, digits: 4 },
] as const;

/** Base 3, the fraction of 243 scaled to 256: multiplying by 3 brings the next digit to the top. */
export const tq1_0: BlockCodec = {
  decode(bytes, at, values, to) {
    const d = f16At(bytes, at + 52);
    for (const part of parts) {
      for (let j = 0; j < part.bytes; j++) {
        let rest = bytes[at + part.at + j];
        for (let k = 0; k < part.digits; k++) {
          values[to + part.first + k * part.bytes + j] = d * (((rest * 3) >>> 8) - 1);
          rest = (rest * 3) & 255;
        }
      }
    }
  },
  encode(values, from, bytes, at) {
    const d = Math.abs(extreme(values, from, 256));
    const q = digits(values, from, d);
    for (const part of parts) {
      for (let j = 0; j < part.bytes; j++) {
        let sum = 0;
        for (let k = 0; k < part.digits; k++) sum += q[part.first + k * part.bytes + j] * 3 ** (4 - k);
        bytes[at + part.at + j] = Math.floor((sum * 256 + 242) / 243);
      }
    }
    putF16(bytes, at + 52, d);
  },
};

/** Two bits each. */
export const tq2_0: BlockCodec = {
  decode(bytes, at, values, to) {
    const d = f16At(bytes, at + 64);
    for (let i = 0; i < 256; i++) values[to + i] = d * (pairAt(bytes, at, i) - 1);
  },
  encode(values, from, bytes, at) {
    const d = Math.abs(extreme(values, from, 256));
    bytes.fill(0, at, at + 64);
    putPairs(bytes, at, digits(values, from, d));
    putF16(bytes, at + 64, d);
  },
};
