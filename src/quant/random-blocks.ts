import { createCipheriv } from "node:crypto";
import { SwitchyardError } from "../errors.js";
import { f32ToF16 } from "../tensor/half.js";
import { type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { decodeBlocks } from "./codecs.js";

/** Where a block keeps its f16 scale, and its f16 minimum with the multiple of the scale at which it centres the values on 0. */
const scales: Readonly<Partial<Record<GgufType, { d: number; dmin?: { at: number; times: number } }>>> = {
  Q4_0: { d: 0 },
  Q8_0: { d: 0 },
  IQ4_NL: { d: 0 },
  // The mean of q times that of its sub-block's scale, over that of the minimum: both are 6 random bits.
  Q4_K: { d: 0, dmin: { at: 2, times: 7.5 } },
  Q5_K: { d: 0, dmin: { at: 2, times: 15.5 } },
  Q6_K: { d: 208 },
};

/** Types that random blocks can be made of. */
export const randomTypes = ["F32", "F16", "BF16", "MXFP4", ...(Object.keys(scales) as (keyof typeof scales)[])] as const;

/** Root mean square of a float of random sign and fraction with exponent 0. */
const rmsOfFraction = Math.sqrt(7 / 3);
/** The same of an MXFP4 element with scale byte 128. */
const rmsOfE2m1 = Math.sqrt((0 + 1 + 4 + 9 + 16 + 36 + 64 + 144) / 8);

/** An endless stream of random bytes, `count` at a time; the same two seeds give the same bytes on every machine. */
export function randomBytes(seed: number, stream: number): (count: number) => Uint8Array<ArrayBuffer> {
  const key = new Uint8Array(Uint32Array.of(seed, stream, 0, 0).buffer);
  const cipher = createCipheriv("aes-128-ctr", key, new Uint8Array(16));
  // Encrypted zeros are the cipher's key stream, several gigabytes of it in a second.
  return (count) => {
    const { buffer, byteOffset } = cipher.update(new Uint8Array(count));
    return new Uint8Array(buffer as ArrayBuffer, byteOffset, count);
  };
}

/**
 * What turns random bytes into whole blocks of `type`, in place: the scales are set so that the values have mean 0 and about the
 * deviation `std` (for floats and MXFP4 its nearest power of two), all other bits stay random. Throws ERR_SWITCHYARD_UNSUPPORTED.
 */
export function blockShaper(type: GgufType, std: number): (bytes: Uint8Array<ArrayBuffer>) => void {
  const exponent = Math.round(Math.log2(std / rmsOfFraction));
  if (type === "F32") return setBits(Uint32Array, 0x807fffff, (exponent + 127) << 23);
  if (type === "BF16") return setBits(Uint16Array, 0x807f, (exponent + 127) << 7);
  if (type === "F16") return setBits(Uint16Array, 0x83ff, Math.max(exponent + 15, 1) << 10);
  if (type === "MXFP4") return (bytes) => eachBlock(type, bytes, (at) => (bytes[at] = 128 + Math.round(Math.log2(std / rmsOfE2m1))));
  if (scales[type] === undefined) throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `random ${type}: expected one of ${randomTypes.join(", ")}`);
  const sample = randomBytes(0, 0)(512 * ggufTypes[type].bytes);
  setScales(type, 1)(sample);
  const values = decodeBlocks(type, sample);
  return setScales(type, std / Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length));
}

/** Keeps the bits of `mask` in every element, and sets `bits`. */
function setBits(array: typeof Uint16Array | typeof Uint32Array, mask: number, bits: number): (bytes: Uint8Array<ArrayBuffer>) => void {
  return ({ buffer, byteOffset, byteLength }) => {
    const words = new array(buffer, byteOffset, byteLength / array.BYTES_PER_ELEMENT);
    for (let i = 0; i < words.length; i++) words[i] = (words[i] & mask) | bits;
  };
}

/** Scale d, of random sign: the levels of these formats are not symmetric. */
function setScales(type: GgufType, d: number): (bytes: Uint8Array) => void {
  const { d: at, dmin } = scales[type] as NonNullable<(typeof scales)[GgufType]>;
  const [scale, minimum] = f32ToF16(Float32Array.of(d, d * (dmin?.times ?? 0)));
  return (bytes) =>
    eachBlock(type, bytes, (block) => {
      const sign = bytes[block + at + 1] & 0x80;
      bytes[block + at] = scale & 255;
      bytes[block + at + 1] = (scale >>> 8) | sign;
      if (dmin === undefined) return;
      bytes[block + dmin.at] = minimum & 255;
      bytes[block + dmin.at + 1] = (minimum >>> 8) | sign;
    });
}

function eachBlock(type: GgufType, bytes: Uint8Array, action: (at: number) => void): void {
  const size = ggufTypes[type].bytes;
  for (let at = 0; at < bytes.length; at += size) action(at);
}
