import { type BlockCodec, f16At, f16Of, nibbleAt, putF16 } from "./block.js";
import { encodeLevels, fitScale, integers, levelsOf } from "./search.js";
import { fitScales } from "./super-blocks.js";

/** The non-uniform steps of the IQ4 formats. */
const steps = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
const levels = levelsOf(steps);
const sixBits = integers(-32, 31);
const codes = new Uint8Array(32);

/** 32 elements: f16 d, 16 bytes of nibbles (elements 0..15 low, 16..31 high). */
export const iq4_NL: BlockCodec = {
  decode(bytes, at, values, to) {
    const d = f16At(bytes, at);
    for (let i = 0; i < 32; i++) values[to + i] = d * steps[nibbleAt(bytes, at + 2, i)];
  },
  fit(x, w, bytes, at) {
    const d = f16Of(fitScale(x, w, 0, 32, levels));
    encodeLevels(x, 0, 32, levels, d, codes);
    putF16(bytes, at, d);
    for (let i = 0; i < 16; i++) bytes[at + 2 + i] = codes[i] | (codes[i + 16] << 4);
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
      for (let i = 0; i < 32; i++) values[to + j * 32 + i] = scale * steps[nibbleAt(bytes, at + 8 + j * 16, i)];
    }
  },
  fit(x, w, bytes, at) {
    const block = fitScales(x, w, 32, levels, sixBits);
    putF16(bytes, at, block.d);
    bytes.fill(0, at + 2, at + 8);
    for (let j = 0; j < 8; j++) {
      const s = block.scales[j] + 32;
      bytes[at + 4 + (j >>> 1)] |= (s & 15) << ((j & 1) * 4);
      bytes[at + 2 + (j >>> 2)] |= (s >>> 4) << ((j & 3) * 2);
      for (let i = 0; i < 16; i++) bytes[at + 8 + j * 16 + i] = block.codes[j * 32 + i] | (block.codes[j * 32 + i + 16] << 4);
    }
  },
};
