/** What op cases are made with and run on: engines, and the same numbers for each of them. */
import { Arena } from "../src/engine/arena.js";
import type { Engine } from "../src/engine/engine.js";
import { loadEngine } from "../src/engine/load.js";
import { ReferenceEngine } from "../src/engine/reference.js";
import { Random } from "../src/tensor/random.js";
import { sizeOf, type Tensor } from "../src/tensor/tensor.js";
import { nativeVariants } from "./engines.js";

export const nativeEngines: readonly Engine[] = nativeVariants.map((isa) => loadEngine({ engine: "native", isa, threads: 2 }));
export const engines: readonly Engine[] = [new ReferenceEngine(), ...nativeEngines];

/** Makes the inputs and outputs of a case on one engine; the same numbers on each. */
export class Maker {
  readonly random = new Random(7);
  private readonly arena: Arena;

  constructor(readonly engine: Engine) {
    this.arena = new Arena(engine, 2 ** 20);
  }

  /** Uniform numbers, rounded to f32 so that all engines start alike. */
  floats(shape: readonly number[], low = -2, high = 2): Tensor {
    return this.filled("f", shape, () => Math.fround(low + (high - low) * this.random.float()));
  }

  /** Integers from `low` to `high` - 1. */
  ints(shape: readonly number[], low: number, high: number): Tensor {
    return this.filled("i", shape, () => low + this.random.below(high - low));
  }

  values(kind: "f" | "i", shape: readonly number[], values: readonly number[]): Tensor {
    const t = this.arena.alloc(kind === "i" ? "i32" : this.engine.float, shape);
    this.engine.write(t, values);
    return t;
  }

  /** The same numbers as f16, rounded. */
  halves(x: Tensor): Tensor {
    const t = this.arena.alloc("f16", x.shape);
    this.engine.copy(t, x);
    return t;
  }

  free(): void {
    this.arena[Symbol.dispose]();
  }

  private filled(kind: "f" | "i", shape: readonly number[], next: () => number): Tensor {
    return this.values(kind, shape, Array.from({ length: sizeOf(shape) }, next));
  }
}

export interface OpCase {
  name: string;
  /** Runs the op and gives the tensors to compare. */
  run: (make: Maker) => Tensor[];
}
