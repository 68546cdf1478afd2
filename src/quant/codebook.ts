import { iq4Steps } from "../engine/reference/blocks.js";
import { type BlockCodec, f16Of, putF16 } from "./block.js";
import { encodeLevels, fitScale, integers, levelsOf } from "./search.js";
import { fitScales } from "./super-blocks.js";

const levels = levelsOf(iq4Steps);
const sixBits = integers(-32, 31);
const codes = new Uint8Array(32);

/** 32 elements: f16 d, 16 bytes of nibbles (elements 0..15 low, 16..31 high). */
export const iq4_NL: BlockCodec = {
  fit(x, w, bytes, at) {
    const d = f16Of(fitScale(x, w, 0, 32, levels));
    encodeLevels(x, 0, 32, levels, d, codes);
    putF16(bytes, at, d);
    for (let i = 0; i < 16; i++) bytes[at + 2 + i] = codes[i] | (codes[i + 16] << 4);
  },
};

/** 256 elements: f16 d, upper 2 bits of eight scales in a u16, their lower 4 in 4 bytes, then eight times 16 bytes of nibbles. */
export const iq4_XS: BlockCodec = {
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
