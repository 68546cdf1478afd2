/** Element types that live in engine memory, with their size in bytes. Checkpoint-only types are in `formats/`. */
export const dtypeBytes = { f32: 4, f64: 8, i32: 4 } as const;

export type DType = keyof typeof dtypeBytes;

export type TypedArray = Float32Array | Float64Array | Int32Array;

/** A zeroed typed array of `length` elements of `dtype`. */
export function typedArray(dtype: DType, length: number): TypedArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(length);
    case "f64":
      return new Float64Array(length);
    case "i32":
      return new Int32Array(length);
  }
}
