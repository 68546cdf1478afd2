import type { Engine, Region } from "../engine/engine.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";

/** Files mapped once each, until disposed. */
export class MappedFiles {
  private readonly regions = new Map<string, Region>();

  constructor(private readonly engine: Engine) {}

  tensor(file: string, dtype: DType, shape: readonly number[], begin: number): Tensor {
    let region = this.regions.get(file);
    if (region === undefined) this.regions.set(file, (region = this.engine.mapFile(file)));
    return region.tensor(dtype, shape, begin);
  }

  [Symbol.dispose](): void {
    for (const region of this.regions.values()) region.free();
    this.regions.clear();
  }
}
