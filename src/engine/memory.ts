import type { DType, TypedArray } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";

/** A block of engine memory; tensors are carved out of it. */
export interface Region {
  readonly bytes: number;
  /** A tensor at `byteOffset`, which must be a multiple of the element size; any number for stored types. */
  tensor(dtype: DType, shape: readonly number[], byteOffset: number): Tensor;
  /** Gives the memory back; its tensors must not be used any more. Calling it twice is harmless. */
  free(): void;
}

/**
 * A file whose parts are read into engine memory while others compute, past the system's page cache where the file system can do that. Reads
 * run in the order of their starts, urgent ones first; each is ended once, by `finish`.
 */
export interface FileReads {
  /**
   * Starts reading `out.bytes` bytes from byte `begin` on, and returns the read's number. `out` lies as far into a page of 4096 bytes of its
   * region as `begin` does in the file, and what else is in its pages is overwritten.
   */
  start(out: Tensor, begin: number, urgent: boolean): number;
  /** Lets a read that waits pass those that are not urgent. */
  hurry(read: number): void;
  /** Reads no more than has begun, and returns how many bytes will be missing. */
  stop(read: number): number;
  /** Waits for a read. Throws ERR_SWITCHYARD_IO. */
  finish(read: number): void;
  /** When all reads have ended. */
  close(): void;
}

export interface Memory {
  /** Zeroed memory. Throws ERR_SWITCHYARD_MEMORY. */
  allocate(bytes: number): Region;
  /** A file mapped read-only. Throws ERR_SWITCHYARD_IO. */
  mapFile(path: string): Region;
  /** A file to read parts of. Throws ERR_SWITCHYARD_IO. */
  openFile(path: string): FileReads;
  /** A copy of the elements in V8; of a stored type, its bytes. */
  read(t: Tensor): TypedArray;
  /** Overwrites `t`; `values` has `t.size` elements, or `t.bytes` of a stored type. */
  write(t: Tensor, values: ArrayLike<number>): void;
  /** The elements of x; f32 ones may become f16, to the nearest, ties to even. */
  copy(out: Tensor, x: Tensor): void;
  fill(out: Tensor, value: number): void;
  /**
   * Tells the system that a tensor of a mapped file will be read soon, so that it starts reading, or not for long, so that its memory can go.
   * Results do not depend on it.
   */
  advise(t: Tensor, needed: boolean): void;
  /**
   * Runs `compute`, whose ops may wait until something is read or written from JavaScript, or `compute` has ended: faster where many small ops stand
   * between products. An error of an op may come as late.
   */
  together<R>(compute: () => R): R;
  /** Bytes now held by regions, mapped files apart. */
  readonly allocatedBytes: number;
}
