import { Arena } from "../../engine/arena.js";
import type { Engine } from "../../engine/engine.js";
import { byteLength } from "../../tensor/dtype.js";
import { type Tensor, view } from "../../tensor/tensor.js";
import type { StoredMatrix } from "../mapped.js";
import type { Loose } from "../repacked.js";

/** Brings matrices that were read in the order of their files into the order of products, in place: by way of memory of its own, for one matrix of each size. */
export class Repacker {
  private readonly arena: Arena;
  /** Memory for one matrix, by type and size. */
  private readonly room = new Map<string, Tensor>();
  /** Orders of rows in engine memory. */
  private readonly places = new Map<Int32Array, Tensor>();

  constructor(private readonly engine: Engine) {
    this.arena = new Arena(engine, 2 ** 20);
  }

  /** Writes the matrix that `elements` and `scales` hold to `out`, which may lie over both. */
  repack(out: Tensor, { rows, cols, dtype, loose }: StoredMatrix, elements: Tensor, scales: Tensor | undefined): void {
    const { block, scaleType, places } = loose as Loose & { places?: Int32Array };
    const key = `${dtype} ${rows} ${cols}`;
    let between = this.room.get(key);
    if (between === undefined) this.room.set(key, (between = this.arena.alloc(dtype, [rows, cols])));
    this.engine.repack(between, { rows, elements, scales, block, scaleType, places: places && this.index(places) });
    this.engine.copy(out, view(between, out.shape));
  }

  private index(places: Int32Array): Tensor {
    let index = this.places.get(places);
    if (index === undefined) {
      this.places.set(places, (index = this.arena.alloc("i32", [places.length])));
      this.engine.write(index, places);
    }
    return index;
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}

/** Bytes that a `Repacker` of these matrices allocates. */
export function repackingBytes(matrices: readonly StoredMatrix[]): number {
  const sizes = new Map(matrices.filter(({ loose }) => loose !== undefined).map(({ dtype, rows, cols }) => [`${dtype} ${rows} ${cols}`, byteLength(dtype, rows * cols)]));
  return [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
}
