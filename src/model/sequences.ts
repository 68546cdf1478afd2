import type { Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import type { KvCache } from "./cache.js";
import type { ModelConfig, Temperature } from "./config.js";
import type { RopeConfig, RopeTables } from "./rope.js";

/** A sequence that goes on for `length` tokens after those in its cache, which grows by them. */
export interface CachedSequence {
  cache: KvCache;
  length: number;
}

/** The sequences of one forward pass, and what depends on their positions alone, made once for all layers. */
export class Sequences {
  /** i32 [T]: the place of each token in its sequence. */
  readonly positions: Tensor;
  /** `expected`: tokens that the sequence has or is known to get. */
  private readonly runs: readonly { start: number; length: number; expected: number }[];
  /** One past the last position. */
  private readonly end: number;
  private readonly constants = new Map<string, Tensor>();

  /** `batch`: sequences that start here, all of one length; or sequences of any lengths that go on. */
  constructor(
    private readonly tape: Tape,
    private readonly ropes: RopeTables,
    private readonly config: ModelConfig,
    readonly batch: number | readonly CachedSequence[],
    tokens: number,
  ) {
    const { context } = config;
    this.runs =
      typeof batch === "number"
        ? Array.from({ length: batch }, () => ({ start: 0, length: tokens / batch, expected: tokens / batch }))
        : batch.map(({ cache, length }) => ({ start: cache.length, length, expected: Math.max(cache.expected, cache.length + length) }));
    for (const { start, length } of this.runs) {
      check(
        Number.isInteger(length) && length > 0 && start + length <= context,
        "ERR_SWITCHYARD_USAGE",
        () => `forward: expected 1 to ${context - start} tokens per sequence (context ${context}, ${start} cached), got ${length}`,
      );
    }
    this.end = this.runs.reduce((end, { start, length }) => Math.max(end, start + length), 0);
    this.positions = tape.constant([tokens], this.perToken(new Int32Array(tokens), (position) => position), "i32");
  }

  /** Fills `values` [T]. */
  private perToken<V extends Int32Array | Float64Array>(values: V, value: (position: number, sequence: { expected: number }) => number): V {
    let t = 0;
    for (const run of this.runs) for (let i = 0; i < run.length; i++) values[t++] = value(run.start + i, run);
    return values;
  }

  /** A constant that several layers use, made when the first asks. */
  memo(key: string, make: () => Tensor): Tensor {
    const known = this.constants.get(key) ?? make();
    this.constants.set(key, known);
    return known;
  }

  /** What `rope` of ops needs to place the tokens with the model's rotary embedding number `i`. */
  rope(i: number): { table: Tensor; positions: Tensor } {
    const { tensor, positions: rows } = this.ropes.get(i, this.end);
    const { long } = this.config.ropes[i] as RopeConfig;
    if (long === undefined) return { table: tensor, positions: this.positions };
    const placed = () => this.perToken(new Int32Array(this.positions.size), (position, { expected }) => position + (expected > long.beyond ? rows : 0));
    return { table: tensor, positions: this.memo(`positions ${i} ${rows}`, () => this.tape.constant([this.positions.size], placed(), "i32")) };
  }

  /** The factor of each token's query, [T, 1]. */
  temperature({ factor, period, from }: Temperature): Tensor {
    const values = () => this.perToken(new Float64Array(this.positions.size), (position) => 1 + factor * Math.log1p(Math.floor((position + from) / period)));
    return this.memo(`temperature ${factor} ${period} ${from}`, () => this.tape.constant([this.positions.size, 1], values()));
  }
}
