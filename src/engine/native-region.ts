import { check } from "../errors.js";
import { byteLength, type DType, isStored } from "../tensor/dtype.js";
import { isWholeBlocks, sizeOf, Tensor } from "../tensor/tensor.js";
import type { Region } from "./memory.js";

/** Memory at an address, or a mapped file. */
export class NativeRegion implements Region {
  private live = true;

  constructor(
    private readonly start: number,
    readonly bytes: number,
    private readonly release: () => void,
  ) {}

  tensor(dtype: DType, shape: readonly number[], byteOffset: number): Tensor {
    const multiple = isStored(dtype) ? 1 : byteLength(dtype, 1);
    const bytes = byteLength(dtype, sizeOf(shape));
    check(isWholeBlocks(dtype, shape), "ERR_SWITCHYARD_SHAPE", () => `region: a row of ${dtype}[${shape.join(", ")}] is not a whole number of blocks`);
    check(
      this.live && byteOffset >= 0 && byteOffset % multiple === 0 && byteOffset + bytes <= this.bytes,
      "ERR_SWITCHYARD_ENGINE",
      () => `region: ${dtype}[${shape.join(", ")}] at byte ${byteOffset} needs a multiple of ${multiple} within ${this.bytes} live bytes`,
    );
    return new Tensor(dtype, shape, this.start + byteOffset);
  }

  free(): void {
    if (this.live) this.release();
    this.live = false;
  }
}
