import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { check } from "../errors.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";

/** Keys and values of the tokens seen so far, for `batch` sequences of equal length. */
export class KvCache {
  /** Tokens held, per sequence. */
  length = 0;
  private readonly arena: Arena;
  /** Per layer [batch * capacity, kvHeads * headDim]. */
  private readonly layers: readonly { k: Tensor; v: Tensor }[];

  constructor(
    private readonly engine: Engine,
    config: ModelConfig,
    readonly batch: number,
    readonly capacity: number,
  ) {
    this.arena = new Arena(engine);
    const shape = [batch * capacity, config.kvHeads * config.headDim];
    this.layers = Array.from({ length: config.layers }, () => ({ k: this.arena.alloc(engine.float, shape), v: this.arena.alloc(engine.float, shape) }));
  }

  /** Appends the keys and values of `count` new tokens per sequence, [batch * count, width], and returns the layer's whole store. */
  append(layer: number, k: Tensor, v: Tensor, count: number): { k: Tensor; v: Tensor } {
    check(this.length + count <= this.capacity, "ERR_SWITCHYARD_USAGE", () => `cache: ${this.length} + ${count} tokens do not fit in ${this.capacity}; shorten the prompt or generate fewer tokens`);
    const store = this.layers[layer] as { k: Tensor; v: Tensor };
    const width = k.cols;
    for (const [from, to] of [[k, store.k], [v, store.v]] as const) {
      for (let b = 0; b < this.batch; b++) {
        const shape = [count, width];
        this.engine.copy(view(to, shape, (b * this.capacity + this.length) * width), view(from, shape, b * count * width));
      }
    }
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
