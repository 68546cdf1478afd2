import { storedBlocks, type StoredDType, type StoredFloat } from "../../tensor/dtype.js";
import { f16At } from "../../tensor/half.js";

export type QuantisedDType = Exclude<StoredDType, StoredFloat>;

/** What one block of a quantised type says: element i is scale[i / group] * q[i] - minimum[i / group], each product exact in f32. */
export interface Block {
  q: Int16Array;
  scale: Float32Array;
  minimum: Float32Array;
}

interface BlockFormat {
  /** Elements that share a scale. */
  group: 16 | 32;
  /** Reads the block that starts at byte `at`. */
  decode(bytes: Uint8Array, at: number, block: Block): void;
}

const i8 = (byte: number): number => (byte << 24) >> 24;
const bit = (bytes: Uint8Array, at: number, i: number): number => (bytes[at + (i >>> 3)] >>> (i & 7)) & 1;
/** Element i of 32 nibbles: 0..15 in the low halves of 16 bytes, 16..31 in the high ones. */
const nibble = (bytes: Uint8Array, at: number, i: number): number => (bytes[at + (i & 15)] >>> (i < 16 ? 0 : 4)) & 15;
/** Two-bit field of element i of 256: each half of a block has 32 bytes, whose fields hold elements l, l + 32, l + 64, l + 96. */
export const pairAt = (bytes: Uint8Array, at: number, i: number): number => (bytes[at + (i >>> 7) * 32 + (i & 31)] >>> (((i >>> 5) & 3) * 2)) & 3;

/** 32 elements with an f16 scale and, for y = d q + m, an f16 minimum. */
function simple(hasMinimum: boolean, read: (bytes: Uint8Array, at: number, i: number) => number): BlockFormat {
  return {
    group: 32,
    decode(bytes, at, { q, scale, minimum }) {
      scale[0] = f16At(bytes, at);
      minimum[0] = hasMinimum ? -f16At(bytes, at + 2) : 0;
      for (let i = 0; i < 32; i++) q[i] = read(bytes, at + (hasMinimum ? 4 : 2), i);
    },
  };
}

/** 6-bit scale and minimum of group j of 8: four scales, four minima, then the low nibbles of the other four of each. */
function scaleAndMinimum(bytes: Uint8Array, at: number, j: number): [number, number] {
  if (j < 4) return [bytes[at + j] & 63, bytes[at + j + 4] & 63];
  return [(bytes[at + j + 4] & 15) | ((bytes[at + j - 4] >>> 6) << 4), (bytes[at + j + 4] >>> 4) | ((bytes[at + j] >>> 6) << 4)];
}

function scaledNibbles(fifthBit: boolean): BlockFormat {
  const nibbles = fifthBit ? 48 : 16;
  return {
    group: 32,
    decode(bytes, at, { q, scale, minimum }) {
      const [d, dmin] = [f16At(bytes, at), f16At(bytes, at + 2)];
      for (let j = 0; j < 8; j++) {
        const [s, m] = scaleAndMinimum(bytes, at + 4, j);
        scale[j] = d * s;
        minimum[j] = dmin * m;
        const [from, shift] = [at + nibbles + (j >>> 1) * 32, (j & 1) * 4];
        for (let l = 0; l < 32; l++) {
          const low = (bytes[from + l] >>> shift) & 15;
          q[j * 32 + l] = fifthBit ? low | (((bytes[at + 16 + l] >>> j) & 1) << 4) : low;
        }
      }
    },
  };
}

/** The non-uniform steps of the IQ4 formats. */
export const iq4Steps = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
/** Twice the values of E2M1 (OCP Microscaling Formats 1.0), so that they are integers; the scales of its types are halved to match. */
export const e2m1Doubled = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

/** How each is read; src/quant/ writes them, and says what stands where. */
export const blockFormats: Readonly<Record<QuantisedDType, BlockFormat>> = {
  q4_0: simple(false, (bytes, at, i) => nibble(bytes, at, i) - 8),
  q4_1: simple(true, nibble),
  q5_0: simple(false, (bytes, at, i) => (nibble(bytes, at + 4, i) | (bit(bytes, at, i) << 4)) - 16),
  q5_1: simple(true, (bytes, at, i) => nibble(bytes, at + 4, i) | (bit(bytes, at, i) << 4)),
  q8_0: simple(false, (bytes, at, i) => i8(bytes[at + i])),
  iq4_nl: simple(false, (bytes, at, i) => iq4Steps[nibble(bytes, at, i)]),
  mxfp4: {
    group: 32,
    decode(bytes, at, { q, scale, minimum }) {
      scale[0] = 2 ** (bytes[at] - 128);
      minimum[0] = 0;
      for (let i = 0; i < 32; i++) q[i] = e2m1Doubled[nibble(bytes, at + 1, i)];
    },
  },
  q2_k: {
    group: 16,
    decode(bytes, at, { q, scale, minimum }) {
      const [d, dmin] = [f16At(bytes, at + 80), f16At(bytes, at + 82)];
      for (let j = 0; j < 16; j++) {
        scale[j] = d * (bytes[at + j] & 15);
        minimum[j] = dmin * (bytes[at + j] >>> 4);
      }
      for (let i = 0; i < 256; i++) q[i] = pairAt(bytes, at + 16, i);
    },
  },
  q3_k: {
    group: 16,
    decode(bytes, at, { q, scale, minimum }) {
      const d = f16At(bytes, at + 108);
      for (let j = 0; j < 16; j++) {
        const low = (bytes[at + 96 + (j & 7)] >>> (j < 8 ? 0 : 4)) & 15;
        scale[j] = d * ((low | (((bytes[at + 104 + (j & 3)] >>> ((j >>> 2) * 2)) & 3) << 4)) - 32);
      }
      minimum.fill(0);
      for (let i = 0; i < 256; i++) q[i] = pairAt(bytes, at + 32, i) - (((bytes[at + (i & 31)] >>> (i >>> 5)) & 1) === 1 ? 0 : 4);
    },
  },
  q4_k: scaledNibbles(false),
  q5_k: scaledNibbles(true),
  q6_k: {
    group: 16,
    decode(bytes, at, { q, scale, minimum }) {
      const d = f16At(bytes, at + 208);
      for (let j = 0; j < 16; j++) scale[j] = d * i8(bytes[at + 192 + j]);
      minimum.fill(0);
      for (let i = 0; i < 256; i++) {
        const low = (bytes[at + (i >>> 7) * 64 + (i & 63)] >>> (((i >>> 6) & 1) * 4)) & 15;
        q[i] = (low | (pairAt(bytes, at + 128, i) << 4)) - 32;
      }
    },
  },
  iq4_xs: {
    group: 32,
    decode(bytes, at, { q, scale, minimum }) {
      const d = f16At(bytes, at);
      for (let j = 0; j < 8; j++) {
        const low = (bytes[at + 4 + (j >>> 1)] >>> ((j & 1) * 4)) & 15;
        scale[j] = d * ((low | (((bytes[at + 2 + (j >>> 2)] >>> ((j & 3) * 2)) & 3) << 4)) - 32);
        for (let i = 0; i < 32; i++) q[j * 32 + i] = iq4Steps[nibble(bytes, at + 8 + j * 16, i)];
      }
      minimum.fill(0);
    },
  },
};

const block: Block = { q: new Int16Array(256), scale: new Float32Array(16), minimum: new Float32Array(16) };

/** The block at byte `at` as f32, to values[to...]. */
export function decodeBlock(dtype: QuantisedDType, bytes: Uint8Array, at: number, values: Float32Array | Float64Array, to: number): void {
  const { group, decode } = blockFormats[dtype];
  const [elements] = storedBlocks[dtype];
  decode(bytes, at, block);
  for (let g = 0, i = 0; i < elements; g++) {
    const [scale, minimum] = [block.scale[g], block.minimum[g]];
    for (const end = i + group; i < end; i++) values[to + i] = scale * block.q[i] - minimum;
  }
}
