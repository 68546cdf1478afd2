/** Element types that ops compute with, and their size in bytes; u8: bytes of a file, which only `repack` reads. */
export const dtypeBytes = { f32: 4, f64: 8, i32: 4, u8: 1 } as const;

/**
 * Element types that weights are stored in and that `matmul`, `groupedMatmul` and `gatherRows` read in place: elements and bytes of one
 * block. Blocks lie along the last dimension. Named as in GGUF, whose layouts they have, but for 8-bit floats, which it lacks: their block is an f32 scale and
 * its 128 elements. `src/quant/` explains the bits.
 */
export const storedBlocks = {
  f16: [1, 2], bf16: [1, 2], q4_0: [32, 18], q4_1: [32, 20], q5_0: [32, 22], q5_1: [32, 24], q8_0: [32, 34], q2_k: [256, 84], q3_k: [256, 110],
  q4_k: [256, 144], q5_k: [256, 176], q6_k: [256, 210], iq4_nl: [32, 18], iq4_xs: [256, 136], mxfp4: [32, 17], fp8_e4m3: [128, 132], fp8_e5m2: [128, 132],
} as const satisfies Record<string, readonly [number, number]>;

type ComputeDType = keyof typeof dtypeBytes;
export type StoredDType = keyof typeof storedBlocks;
export type DType = ComputeDType | StoredDType;

/** What holds elements in V8; those of a stored type are its bytes. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array;

/** Stored types whose elements products take as f32; with those of the others they round rows of activations to 8 bits. */
const storedFloats = ["f16", "bf16", "fp8_e4m3", "fp8_e5m2"] as const;
export type StoredFloat = (typeof storedFloats)[number];

/** By comparison, as in `byteLength`: a look-up takes several times as long, and each op asks for each of its tensors. */
export const isStored = (dtype: DType): dtype is StoredDType => dtype !== "f32" && dtype !== "i32" && dtype !== "f64" && dtype !== "u8";

export const isStoredFloat = (dtype: DType): dtype is StoredFloat => (storedFloats as readonly DType[]).includes(dtype);

/** Whether products with it round rows of activations to 8 bits. */
export const isQuantised = (dtype: DType): boolean => isStored(dtype) && !isStoredFloat(dtype);

/** Elements that only occur together: a row must be a multiple of this. */
export const blockElements = (dtype: DType): number => (isStored(dtype) ? storedBlocks[dtype][0] : 1);

/** Bytes of `size` elements, which are whole blocks. */
export function byteLength(dtype: DType, size: number): number {
  if (dtype === "f32" || dtype === "i32") return 4 * size;
  if (!isStored(dtype)) return size * dtypeBytes[dtype];
  const [elements, bytes] = storedBlocks[dtype];
  return (size / elements) * bytes;
}

const arrays = { f32: Float32Array, f64: Float64Array, i32: Int32Array, u8: Uint8Array } as const;

/** A zeroed typed array for `size` elements of `dtype`, or, with `buffer`, those from its byte `at` on. */
export function typedArray(dtype: DType, size: number, buffer?: ArrayBuffer, at = 0): TypedArray {
  const [Type, length] = isStored(dtype) ? [Uint8Array, byteLength(dtype, size)] : [arrays[dtype], size];
  return buffer === undefined ? new Type(length) : new Type(buffer, at, length);
}
