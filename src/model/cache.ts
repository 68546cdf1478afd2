import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { check } from "../errors.js";
import { dtypeBytes } from "../tensor/dtype.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";

/** Keys and values of the tokens of one sequence seen so far. */
export class KvCache {
  /** Tokens held. */
  length = 0;
  private readonly arena: Arena;
  /** Per layer [capacity, kvHeads * headDim]. */
  private readonly layers: readonly { k: Tensor; v: Tensor }[];

  constructor(
    private readonly engine: Engine,
    config: ModelConfig,
    readonly capacity: number,
  ) {
    const shape = [capacity, config.kvHeads * config.headDim];
    const slack = 64; // each tensor's alignment
    this.arena = new Arena(engine, 2 * config.layers * (capacity * config.kvHeads * config.headDim * dtypeBytes[engine.float] + slack));
    this.layers = Array.from({ length: config.layers }, () => ({ k: this.arena.alloc(engine.float, shape), v: this.arena.alloc(engine.float, shape) }));
  }

  /** Appends the keys and values [count, width] of new tokens and returns the layer's whole store. */
  append(layer: number, k: Tensor, v: Tensor): { k: Tensor; v: Tensor } {
    check(this.length + k.rows <= this.capacity, "ERR_SWITCHYARD_USAGE", () => `cache: ${this.length} + ${k.rows} tokens do not fit in ${this.capacity}; shorten the prompt or generate fewer tokens`);
    const store = this.layers[layer] as { k: Tensor; v: Tensor };
    const at = this.length * k.cols;
    this.engine.copy(view(store.k, k.shape, at), k);
    this.engine.copy(view(store.v, v.shape, at), v);
    return store;
  }

  /** Forgets all but the first `length` tokens. */
  truncate(length: number): void {
    this.length = Math.min(this.length, length);
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}
