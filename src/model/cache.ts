import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { check } from "../errors.js";
import { byteLength, type DType } from "../tensor/dtype.js";
import { sizeOf, type Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import { mixerOf } from "./mixer.js";

/** Type that keys and values are kept in: f16 takes half the memory, and half the time to read, of f32, and rounds each to 11 bits. */
export type KvType = "f32" | "f16";

/** The tensors that a layer keeps of one sequence of at most `capacity` tokens. */
export function keptTensors(config: ModelConfig, l: number, capacity: number, kv: KvType, float: DType = "f32"): { dtype: DType; shape: readonly number[] }[] {
  const { state, keys = 0 } = mixerOf(config, l);
  return state(config, l, capacity).map((shape, i) => ({ dtype: i < keys && kv === "f16" ? kv : float, shape }));
}

/** What the layers keep of the tokens of one sequence seen so far: keys and values, or the states of other mixers. */
export class KvCache {
  private count = 0;
  /** A forward pass has begun and not ended: states that cannot go back may be ahead of `count`. */
  private unfinished = false;
  private planned = 0;
  private disposed = false;
  /** Lengths of a sequence beyond which a rotary embedding rotates all its positions by other angles (LongRoPE). */
  private readonly boundaries: readonly number[];
  private readonly arena: Arena;
  /** Whether `truncate` can go back to any length: no layer keeps a state that only goes forward. */
  readonly rewinds: boolean;
  /** Whether a sequence may be run in several calls, since what is kept of its first tokens is right whatever follows. If not, all that is left of it is run in one. */
  readonly keeps: boolean;
  /** What is kept is right in sequences of at most so many tokens, ... */
  private readonly upTo: number;
  /** ... and of whole blocks of so many tokens. */
  private readonly block: number;
  /** Every state that cannot go back is that after the last whole block, to which `truncate` can therefore go back. */
  private readonly inBlocks: boolean;
  /** Per layer the tensors that its mixer asked for. */
  readonly layers: readonly (readonly Tensor[])[];
  /** Those of them that cannot go back to fewer tokens; a new sequence begins with zeros. */
  private readonly states: readonly Tensor[];

  constructor(
    private readonly engine: Engine,
    config: ModelConfig,
    readonly capacity: number,
    kv: KvType = "f32",
  ) {
    const layers = Array.from({ length: config.layers }, (_, l) => l);
    const kept = layers.map((l) => keptTensors(config, l, capacity, kv, engine.float));
    const slack = 64; // each tensor's alignment
    this.arena = new Arena(engine, kept.flat().reduce((sum, { dtype, shape }) => sum + byteLength(dtype, sizeOf(shape)) + slack, 0));
    this.layers = kept.map((list) => list.map(({ dtype, shape }) => this.arena.alloc(dtype, shape)));
    this.states = this.layers.flatMap((list, l) => (mixerOf(config, l).rewinds ? [] : list));
    this.boundaries = config.ropes.flatMap(({ long }) => long?.beyond ?? []);
    const holds = layers.map((l) => mixerOf(config, l).holds?.(config, l) ?? {});
    this.upTo = Math.min(...holds.map(({ upTo = Infinity }) => upTo));
    this.block = Math.max(...holds.map(({ block = 1 }) => block));
    this.inBlocks = layers.every((l) => mixerOf(config, l).rewinds || holds[l]?.block === this.block);
    this.keeps = this.upTo === Infinity && this.block === 1;
    this.rewinds = this.keeps && this.states.length === 0;
  }

  /** Tokens held. */
  get length(): number {
    return this.count;
  }

  /** Whether what is kept of a token depends on how long its sequence is. */
  get goesByLength(): boolean {
    return this.boundaries.length > 0;
  }

  /** Tokens that the sequence has, or is known to get. */
  get expected(): number {
    return this.planned;
  }

  /** The sequence is about to have `tokens`. What does not hold for a sequence of that length is forgotten; `length` says what is left. */
  expect(tokens: number): void {
    const isOther = this.boundaries.some((beyond) => tokens > beyond !== this.planned > beyond) || Math.max(tokens, this.planned) > this.upTo;
    this.truncate(isOther ? 0 : this.wholeBlocks);
    this.planned = tokens;
  }

  /** Makes sure that `tokens` more have room. Throws ERR_SWITCHYARD_USAGE. */
  reserve(tokens: number): void {
    this.checkLive();
    check(this.count + tokens <= this.capacity, "ERR_SWITCHYARD_USAGE", () => `cache: ${this.count} + ${tokens} tokens do not fit in ${this.capacity}; shorten the prompt or generate fewer tokens`);
    const total = this.count + tokens;
    const turned = this.count > 0 && this.boundaries.some((beyond) => total > beyond && this.planned <= beyond);
    check(!turned, "ERR_SWITCHYARD_USAGE", () => `cache: a sequence of ${total} tokens turns the ${this.count} that are kept otherwise; call expect(${total}), and run again what it forgets`);
    this.planned = Math.max(this.planned, total);
    this.unfinished = true;
  }

  /** The layers have kept `tokens` more. */
  grow(tokens: number): void {
    this.count += tokens;
    this.unfinished = false;
  }

  private get wholeBlocks(): number {
    return this.count - (this.count % this.block);
  }

  /** Forgets all but the first `length` tokens; all of them where a layer's state would have to go back. `length` says what is left. */
  truncate(length: number): void {
    this.checkLive();
    if (length >= this.count && !this.unfinished) return;
    const left = Math.min(length, this.count);
    const stands = this.inBlocks && !this.unfinished && left >= this.wholeBlocks ? this.wholeBlocks : 0;
    this.count = this.states.length === 0 ? left : stands;
    this.unfinished = false;
    if (this.count > 0) return;
    this.planned = 0;
    for (const state of this.states) this.engine.fill(state, 0);
  }

  /** Throws ERR_SWITCHYARD_USAGE once it was disposed of: its memory may be another's by now, so that the engine would not notice. */
  checkLive(): void {
    check(!this.disposed, "ERR_SWITCHYARD_USAGE", () => "cache: it was disposed of, or its session was; make another, or dispose of it later");
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.arena[Symbol.dispose]();
  }
}
