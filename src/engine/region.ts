import { check } from "../errors.js";
import { byteLength, type DType, isStored } from "../tensor/dtype.js";
import { isWholeBlocks, sizeOf, type Storage, Tensor } from "../tensor/tensor.js";
import type { Region } from "./memory.js";

/** Where an engine has `size` elements of `dtype` from byte `at` of a region on. */
type Place = (dtype: DType, size: number, at: number) => Storage;

/** Memory of either engine, or a mapped file. */
export class EngineRegion implements Region {
  /** Undefined once the memory has been given back. */
  private place: Place | undefined;

  constructor(
    readonly bytes: number,
    place: Place,
    private readonly release: () => void = () => {},
  ) {
    this.place = place;
  }

  tensor(dtype: DType, shape: readonly number[], byteOffset: number): Tensor {
    const multiple = isStored(dtype) ? 1 : byteLength(dtype, 1);
    const size = sizeOf(shape);
    check(isWholeBlocks(dtype, shape), "ERR_SWITCHYARD_SHAPE", () => `region: a row of ${dtype}[${shape.join(", ")}] is not a whole number of blocks`);
    check(
      this.place !== undefined && byteOffset >= 0 && byteOffset % multiple === 0 && byteOffset + byteLength(dtype, size) <= this.bytes,
      "ERR_SWITCHYARD_ENGINE",
      () => `region: ${dtype}[${shape.join(", ")}] at byte ${byteOffset} needs a multiple of ${multiple} within ${this.bytes} live bytes`,
    );
    return new Tensor(dtype, shape, this.place(dtype, size, byteOffset));
  }

  free(): void {
    if (this.place !== undefined) this.release();
    this.place = undefined;
  }
}
