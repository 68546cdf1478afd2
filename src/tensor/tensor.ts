import { check } from "../errors.js";
import { blockElements, byteLength, type DType, type TypedArray } from "./dtype.js";

/**
 * Where an engine keeps a tensor's elements: an address in native memory, or a typed array of the
 * reference engine. Only engines look inside.
 */
export type Storage = number | TypedArray;

/** A dense row-major array in engine memory. A handle: it owns nothing, the arena it came from does. */
export class Tensor {
  /** Gradient of the loss with respect to this tensor; set by the tape, or once for a parameter. */
  grad: Tensor | undefined;
  /** Whether the tape should compute `grad`. */
  requiresGrad = false;
  /** Whether `grad` holds something yet: the first contribution overwrites it, later ones add. */
  gradWritten = false;
  /** For an op that can sum the squares of the `grad` that it writes: where (f64 [1]), and whether that is the sum of what `grad` holds. */
  gradSquares: { sum: Tensor; known: boolean } | undefined;
  readonly size: number;

  constructor(
    readonly dtype: DType,
    readonly shape: readonly number[],
    readonly storage: Storage,
  ) {
    this.size = sizeOf(shape);
  }

  /** Rows when the tensor is seen as a matrix whose columns are its last dimension. */
  get rows(): number {
    return this.shape.length === 0 ? 1 : this.size / this.cols || 0;
  }

  /** Length of the last dimension; 1 for a scalar. */
  get cols(): number {
    return this.shape.at(-1) ?? 1;
  }

  get bytes(): number {
    return byteLength(this.dtype, this.size);
  }

  toString(): string {
    return `${this.dtype}[${this.shape.join(", ")}]`;
  }
}

/** A matrix that will be somewhere by the time an op reads it: `storage` is where its address stands in engine memory. Only grouped products take such. */
export class LateTensor extends Tensor {}

export function sizeOf(shape: readonly number[]): number {
  let product = 1;
  for (const n of shape) product *= n;
  return product;
}

/** Elements `[offset, offset + size(shape))` of `t`, whole blocks of them, seen as `shape`; shares memory and carries no gradient. */
export function view(t: Tensor, shape: readonly number[], offset = 0): Tensor {
  const size = sizeOf(shape);
  check(
    Number.isInteger(offset) && offset >= 0 && offset + size <= t.size && offset % blockElements(t.dtype) === 0 && isWholeBlocks(t.dtype, shape),
    "ERR_SWITCHYARD_SHAPE",
    () => `view: [${shape.join(", ")}] at element ${offset} does not fit in ${t}`,
  );
  const start = byteLength(t.dtype, offset);
  const { storage } = t;
  if (typeof storage === "number") return new Tensor(t.dtype, shape, storage + start);
  const first = start / storage.BYTES_PER_ELEMENT;
  return new Tensor(t.dtype, shape, storage.subarray(first, first + byteLength(t.dtype, size) / storage.BYTES_PER_ELEMENT));
}

/** Whether the first element of `inner`, which may be a view, lies in `t`. */
export function contains(t: Tensor, inner: Tensor): boolean {
  const [a, b] = [t.storage, inner.storage];
  if (typeof a === "number" || typeof b === "number") return a <= b && (b as number) < (a as number) + t.bytes;
  return a.buffer === b.buffer && a.byteOffset <= b.byteOffset && b.byteOffset < a.byteOffset + a.byteLength;
}

/** Whether rows of this shape are whole blocks of `dtype`. */
export const isWholeBlocks = (dtype: DType, shape: readonly number[]): boolean => (shape.at(-1) ?? 1) % blockElements(dtype) === 0;

/** Throws unless `t` has exactly `shape`; `name` is what the caller calls it. */
export function checkShape(op: string, name: string, t: Tensor, shape: readonly number[]): void {
  check(
    t.shape.length === shape.length && t.shape.every((n, i) => n === shape[i]),
    "ERR_SWITCHYARD_SHAPE",
    () => `${op}: expected ${name} of shape [${shape.join(", ")}], got ${t}`,
  );
}
