import { type BlockCodec, f16At } from "./block.js";

/** The non-uniform steps of the IQ4 formats. */
const steps = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/** 32 elements: f16 d, 16 bytes of nibbles (elements 0..15 low, 16..31 high). */
export const iq4_NL: BlockCodec = {
  decode(bytes, at, values, to) {
    const d = f16At(bytes, at);
    for (let i = 0; i < 32; i++) values[to + i] = d * steps[(bytes[at + 2 + (i & 15)] >>> (i < 16 ? 0 : 4)) & 15];
  },
};

/** 256 elements: f16 d, upper 2 bits of eight scales in a u16, their lower 4 in 4 bytes, then eight times 16 bytes of nibbles. */
export const iq4_XS: BlockCodec = {
  decode(bytes, at, values, to) {
    const d = f16At(bytes, at);
    for (let j = 0; j < 8; j++) {
      const low = (bytes[at + 4 + (j >>> 1)] >>> ((j & 1) * 4)) & 15;
      const high = (bytes[at + 2 + (j >>> 2)] >>> ((j & 3) * 2)) & 3;
      const scale = Math.fround(d * ((low | (high << 4)) - 32));
      for (let i = 0; i < 32; i++) {
        values[to + j * 32 + i] = scale * steps[(bytes[at + 8 + j * 16 + (i & 15)] >>> (i < 16 ? 0 : 4)) & 15];
      }
    }
  },
};
