import type { Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import type { KvCache } from "./cache.js";
import type { RopeTables } from "./rope.js";

/** A sequence that goes on for `length` tokens after those in its cache, which grows by them. */
export interface CachedSequence {
  cache: KvCache;
  length: number;
}

/** The sequences of one forward pass, and what depends on their positions alone, made once for all layers. */
export class Sequences {
  /** i32 [T]: the place of each token in its sequence. */
  readonly positions: Tensor;
  /** The longest sequence, in tokens, those of its cache included. */
  readonly longest: number;

  /** `batch`: sequences that start here, all of one length; or sequences of any lengths that go on. */
  constructor(
    tape: Tape,
    private readonly ropes: RopeTables,
    readonly batch: number | readonly CachedSequence[],
    tokens: number,
    context: number,
  ) {
    const runs =
      typeof batch === "number"
        ? Array.from({ length: batch }, () => ({ start: 0, length: tokens / batch }))
        : batch.map(({ cache, length }) => ({ start: cache.length, length }));
    for (const { start, length } of runs) {
      check(
        Number.isInteger(length) && length > 0 && start + length <= context,
        "ERR_SWITCHYARD_USAGE",
        () => `forward: expected 1 to ${context - start} tokens per sequence (context ${context}, ${start} cached), got ${length}`,
      );
    }
    this.longest = Math.max(...runs.map(({ start, length }) => start + length));
    this.positions = tape.constant([tokens], Int32Array.from(runs.flatMap(({ start, length }) => Array.from({ length }, (_, i) => start + i))), "i32");
  }

  /** What `rope` of ops needs for the model's rotary embedding number `i`. */
  rope(i: number): { table: Tensor; positions: Tensor } {
    return { table: this.ropes.get(i, this.longest), positions: this.positions };
  }
}
