import type { StoredDType, StoredFloat } from "../../tensor/dtype.js";

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

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The binary16 number at byte `at`. */
export function f16At(bytes: Uint8Array, at: number): number {
  const half = bytes[at] | (bytes[at + 1] << 8);
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** The bfloat16 number at byte `at`. */
export function bf16At(bytes: Uint8Array, at: number): number {
  bits[0] = ((bytes[at] | (bytes[at + 1] << 8)) << 16) >>> 0;
  return float[0];
}

/** The f32 number at byte `at`. */
export function f32At(bytes: Uint8Array, at: number): number {
  bits[0] = (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
  return float[0];
}

const i8 = (byte: number): number => (byte << 24) >> 24;
const bit = (bytes: Uint8Array, at: number, i: number): number => (bytes[at + (i >>> 3)] >>> (i & 7)) & 1;
/** Element i of 32 nibbles: 0..15 in the low halves of 16 bytes, 16..31 in the high ones. */
const nibble = (bytes: Uint8Array, at: number, i: number): number => (bytes[at + (i & 15)] >>> (i < 16 ? 0 : 4)) & 15;
/** Two-bit field of element i of 256: each half of a block has 32 bytes, whose fields hold elements l, l + 32, l + 64, l + 96. */
const pair = (bytes: Uint8Array, at: number, i: number): number => (bytes[at + (i >>> 7) * 32 + (i & 31)] >>> (((i >>> 5) & 3) * 2)) & 3;

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
  return {
    group: 32,
    decode(bytes, at, { q, scale, minimum }) {
      const [d, dmin] = [f16At(bytes, at), f16At(bytes, at + 2)];
      for (let j = 0; j < 8; j++) {
        const [s, m] = scaleAndMinimum(bytes, at + 4, j);
        scale[j] = d * s;
        minimum[j] = dmin * m;
        for (let l = 0; l < 32; l++) {
          const low = (bytes[at + (fifthBit ? 48 : 16) + (j >>> 1) * 32 + l] >>> ((j & 1) * 4)) & 15;
          q[j * 32 + l] = low | (fifthBit ? ((bytes[at + 16 + l] >>> j) & 1) << 4 : 0);
        }
      }
    },
  };
}

const iq4Steps = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
/** Twice the values of E2M1. */
const e2m1Doubled = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

/** Layouts as in src/quant/, which decodes them to f32 and says where each comes from. */
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
      for (let i = 0; i < 256; i++) q[i] = pair(bytes, at + 16, i);
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
      for (let i = 0; i < 256; i++) q[i] = pair(bytes, at + 32, i) - (((bytes[at + (i & 31)] >>> (i >>> 5)) & 1) === 1 ? 0 : 4);
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
        q[i] = (low | (pair(bytes, at + 128, i) << 4)) - 32;
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
