import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check } from "../errors.js";
import { prefillTokens } from "../generate/generate.js";
import { KvCache, type KvType } from "../model/cache.js";
import type { LanguageModel } from "../model/language-model.js";
import { type CacheCounts, emptyCounts } from "../model/residency/counts.js";
import { forward, logits } from "../model/transformer.js";
import type { TypedArray } from "../tensor/dtype.js";
import { view } from "../tensor/tensor.js";
import { addCounts, type CacheReport, cacheReport } from "./residency.js";
import { type Peaks, workPerToken } from "./work.js";

/** Tokens per second of one test, named as llama-bench names it: pp512 runs a prompt of 512 tokens, tg64 generates 64 after an empty one. */
export interface SpeedTest {
  test: string;
  /** Median of the repetitions. */
  tokensPerSecond: number;
  fastest: number;
  slowest: number;
  repetitions: number;
  /** Of weights, and of keys and values half way through the test, that a token written reads; of a prompt's token null. */
  bytesPerToken: number | null;
  /** What the median needs of the read bandwidth (tg) or of the arithmetic peak (pp); null where these are not measured. */
  percentOfPeak: number | null;
  /** Under a memory budget: of all repetitions. */
  cache?: CacheReport;
}

interface SpeedOptions {
  /** Lengths of prompts, in tokens. */
  prompts: readonly number[];
  /** Numbers of tokens to generate. */
  generations: readonly number[];
  repetitions: number;
  /** Tokens in the cache before each test. */
  depth: number;
  /** Type of the keys and values kept; by default that of `LanguageModel.kv`. */
  kv?: KvType | undefined;
}

/** The tests of a model, to be run one at a time. Tokens are arbitrary but the same in every run: a mixture's speed depends on how many experts they use. */
export class SpeedTests {
  readonly names: readonly string[];
  private readonly tests: readonly { n: number; step: number }[];
  private readonly cache: KvCache;
  private readonly arena: Arena;

  /** Throws ERR_SWITCHYARD_USAGE for a test that does not fit the model's context. */
  constructor(
    private readonly model: LanguageModel,
    private readonly options: Omit<SpeedOptions, "repetitions">,
  ) {
    const { prompts, generations, depth } = options;
    const { context } = model.config;
    const tests = [...prompts.map((n) => ({ name: `pp${n}`, n, step: prefillTokens })), ...generations.map((n) => ({ name: `tg${n}`, n, step: 1 }))];
    for (const { name, n } of tests) {
      check(Number.isInteger(n) && n >= 1 && depth + n <= context, "ERR_SWITCHYARD_USAGE", () => `bench: ${name} after ${depth} tokens: expected 1 to ${context - depth} tokens, the model's context`);
    }
    this.tests = tests;
    this.names = tests.map(({ name }) => name);
    this.cache = new KvCache(model.engine, model.config, depth + Math.max(...tests.map(({ n }) => n)), options.kv ?? model.kv);
    this.arena = new Arena(model.engine);
  }

  /** Tokens per second of the i-th test. */
  run(i: number): number {
    const { n, step } = this.tests[i] as { n: number; step: number };
    const { depth } = this.options;
    this.cache.truncate(depth);
    this.runTokens(depth - this.cache.length, prefillTokens);
    const start = performance.now();
    this.runTokens(n, step);
    return (1000 * n) / (performance.now() - start);
  }

  /** What the i-th test, at so many tokens per second, tells. */
  describe(i: number, tokensPerSecond: number, peaks: Peaks | undefined): Pick<SpeedTest, "bytesPerToken" | "percentOfPeak"> {
    const { n, step } = this.tests[i] as { n: number; step: number };
    const { weightBytes, cacheBytes, operations } = workPerToken(this.model, this.options.kv ?? this.model.kv);
    const bytesPerToken = step === 1 ? weightBytes + cacheBytes * (this.options.depth + n / 2) : null;
    const needed = bytesPerToken === null ? operations / (peaks?.operations ?? 0) : bytesPerToken / (peaks?.bandwidth ?? 0);
    return { bytesPerToken, percentOfPeak: peaks === undefined ? null : 100 * tokensPerSecond * needed };
  }

  private runTokens(count: number, step: number): void {
    for (let done = 0; done < count; done += step) forwardTokens(this.model, this.arena, this.cache, Math.min(step, count - done));
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
    this.cache[Symbol.dispose]();
  }
}

/**
 * Measures a model. The tests take turns, so that a slow moment of the machine does not hit one of them alone, after one round that does
 * not count. Throws as `SpeedTests`.
 */
export function measureSpeed(model: LanguageModel, options: SpeedOptions, peaks?: Peaks): SpeedTest[] {
  const { repetitions } = options;
  using tests = new SpeedTests(model, options);
  const rates = tests.names.map((): number[] => []);
  const { cache } = model.parameters;
  const counts = tests.names.map(emptyCounts);
  for (let round = 0; round <= repetitions; round++) {
    for (const [i, list] of rates.entries()) {
      const before = { ...(cache?.counts ?? emptyCounts()) };
      const rate = tests.run(i);
      if (round === 0) continue;
      list.push(rate);
      if (cache !== undefined) addCounts(counts[i] as CacheCounts, cache.counts, before);
    }
  }
  return tests.names.map((test, i) => {
    const sorted = (rates[i] as number[]).toSorted((a, b) => a - b);
    const median = ((sorted[(sorted.length - 1) >> 1] as number) + (sorted[sorted.length >> 1] as number)) / 2;
    const residency = cache && { cache: cacheReport(counts[i] as CacheCounts) };
    return { test, tokensPerSecond: median, fastest: sorted.at(-1) as number, slowest: sorted[0] as number, repetitions, ...tests.describe(i, median, peaks), ...residency };
  });
}

/** One step: `count` tokens, arbitrary ones, and the logits of the last one. */
export function forwardTokens(model: LanguageModel, arena: Arena, cache: KvCache, count: number): TypedArray {
  arena.reset();
  const tape = new Tape(model.engine, arena);
  const ids = Int32Array.from({ length: count }, (_, i) => ((cache.length + i) * 7919 + 100) % model.config.vocab);
  const { hidden } = forward(tape, model, { ids: tape.constant([count], ids, "i32"), batch: [{ cache, length: count }] });
  return model.engine.read(logits(tape, model, view(hidden, [1, hidden.cols], (count - 1) * hidden.cols)));
}
