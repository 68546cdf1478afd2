import { blockFormats, decodeBlock, type QuantisedDType } from "../engine/reference/blocks.js";
import { check, SwitchyardError } from "../errors.js";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../tensor/half.js";
import { type GgufType, ggufTypes } from "../formats/gguf/types.js";
import type { BlockCodec } from "./block.js";
import { iq4_NL, iq4_XS } from "./codebook.js";
import { mxfp4, nvfp4 } from "./fp4.js";
import { q2_K, q3_K, q4_K, q5_K, q6_K } from "./k-quants.js";
import { q4_0, q4_1, q5_0, q5_1, q8_0 } from "./simple.js";
import { tq1_0, tq2_0 } from "./ternary.js";

/** The quantised formats that can be read; those with an encoder or a search can be written too. Ids and block sizes are in `ggufTypes`. */
export const blockCodecs: Readonly<Partial<Record<GgufType, BlockCodec>>> = {
  Q4_0: q4_0, Q4_1: q4_1, Q5_0: q5_0, Q5_1: q5_1, Q8_0: q8_0, Q2_K: q2_K, Q3_K: q3_K, Q4_K: q4_K, Q5_K: q5_K, Q6_K: q6_K,
  IQ4_NL: iq4_NL, IQ4_XS: iq4_XS, MXFP4: mxfp4, NVFP4: nvfp4, TQ1_0: tq1_0, TQ2_0: tq2_0,
};

/** Whether elements of this type can become f32. */
export const isDecodable = (type: GgufType): boolean => type in blockCodecs || type === "F32" || type === "F16" || type === "BF16";

/**
 * Whole blocks of a type as f32. `bytes` may be used for the result. Throws ERR_SWITCHYARD_UNSUPPORTED for a type without a decoder,
 * ERR_SWITCHYARD_SHAPE for a part of a block.
 */
export function decodeBlocks(type: GgufType, bytes: Uint8Array<ArrayBuffer>): Float32Array {
  const { elements, bytes: size } = ggufTypes[type];
  const count = bytes.length / size;
  check(Number.isInteger(count), "ERR_SWITCHYARD_SHAPE", () => `decode ${type}: expected whole blocks of ${size} bytes, got ${bytes.length} bytes`);
  const halves = () => new Uint16Array(aligned(bytes), 0, count);
  if (type === "F32") return new Float32Array(aligned(bytes), 0, count);
  if (type === "F16") return f16ToF32(halves());
  if (type === "BF16") return bf16ToF32(halves());
  const decode = decoderOf(type);
  if (decode === undefined) throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `decode ${type}: no decoder; expected one of F32, F16, BF16, ${Object.keys(blockCodecs).join(", ")}`);
  const values = new Float32Array(count * elements);
  for (let i = 0; i < count; i++) decode(bytes, i * size, values, i * elements);
  return values;
}

function decoderOf(type: GgufType): BlockCodec["decode"] {
  const dtype = type.toLowerCase() as QuantisedDType;
  return dtype in blockFormats ? (bytes, at, values, to) => decodeBlock(dtype, bytes, at, values, to) : blockCodecs[type]?.decode;
}

function aligned(bytes: Uint8Array<ArrayBuffer>): ArrayBuffer {
  return bytes.byteOffset === 0 ? bytes.buffer : bytes.slice().buffer;
}

/**
 * f32 as whole blocks of a type. Throws ERR_SWITCHYARD_UNSUPPORTED for a type without an encoder, ERR_SWITCHYARD_SHAPE for a part of a
 * block, ERR_SWITCHYARD_DATA where F16 or a quantised type cannot hold the values: not finite, or too large for f16, which its scales are.
 */
export function encodeBlocks(type: GgufType, values: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { elements, bytes: size } = ggufTypes[type];
  const count = values.length / elements;
  check(Number.isInteger(count), "ERR_SWITCHYARD_SHAPE", () => `encode ${type}: expected whole blocks of ${elements} elements, got ${values.length}`);
  const asBytes = ({ buffer, byteOffset, byteLength }: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>) => new Uint8Array(buffer, byteOffset, byteLength);
  if (type === "F32") return asBytes(values);
  if (type === "F16") {
    checkValues(type, values);
    return asBytes(f32ToF16(values));
  }
  if (type === "BF16") return asBytes(f32ToBf16(values));
  const encode = blockCodecs[type]?.encode;
  const writable = Object.entries(blockCodecs).filter(([, codec]) => codec.encode !== undefined);
  if (encode === undefined) throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `encode ${type}: no encoder; expected one of F32, F16, BF16, ${writable.map(([name]) => name).join(", ")}`);
  checkValues(type, values);
  const bytes = new Uint8Array(count * size);
  for (let i = 0; i < count; i++) encode(values, i * elements, bytes, i * size);
  return bytes;
}

/**
 * Rows of `importance.length` elements as blocks of a type, with the least sum of importance * error^2 that a search finds: `importance` is what the
 * square of an error in that column costs, all 1 for the least squared error. Types without a search are rounded as by `encodeBlocks`. Throws as that
 * does, and ERR_SWITCHYARD_DATA for an importance that is negative or not finite.
 */
export function fitBlocks(type: GgufType, values: Float32Array<ArrayBuffer>, importance: Float32Array): Uint8Array<ArrayBuffer> {
  const fit = blockCodecs[type]?.fit;
  if (fit === undefined) return encodeBlocks(type, values);
  const { elements, bytes: size } = ggufTypes[type];
  const cols = importance.length;
  check(cols % elements === 0 && values.length % cols === 0, "ERR_SWITCHYARD_SHAPE", () => `encode ${type}: expected rows of ${cols} elements, whole blocks of ${elements}, got ${values.length} elements`);
  checkValues(type, values);
  const wrong = importance.find((w) => !(w >= 0 && w < Infinity));
  check(wrong === undefined, "ERR_SWITCHYARD_DATA", () => `encode ${type}: expected an importance of 0 or more, got ${wrong}`);
  const bytes = new Uint8Array((values.length / elements) * size);
  const [x, w] = [new Float64Array(elements), new Float64Array(elements)];
  for (let from = 0, at = 0; from < values.length; from += elements, at += size) {
    x.set(values.subarray(from, from + elements));
    w.set(importance.subarray(from % cols, (from % cols) + elements));
    // Columns that nothing ever came through: any error will do, so the least one is as good as any other.
    if (w.every((cost) => cost === 0)) w.fill(1);
    fit(x, w, bytes, at);
  }
  return bytes;
}

function checkValues(type: GgufType, values: Float32Array): void {
  const wrong = values.find((x) => !(Math.abs(x) <= largestHalf));
  check(wrong === undefined, "ERR_SWITCHYARD_DATA", () => `encode ${type}: expected numbers up to ${largestHalf}, the largest of f16, got ${wrong}; choose bf16 or f32 for it`);
}

/** With elements up to the largest f16 no scale and no minimum overflows it. */
const largestHalf = 65_504;
