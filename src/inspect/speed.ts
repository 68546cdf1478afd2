import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check } from "../errors.js";
import { prefillTokens } from "../generate/generate.js";
import { KvCache } from "../model/cache.js";
import type { LanguageModel } from "../model/language-model.js";
import { forward, logits } from "../model/transformer.js";
import { view } from "../tensor/tensor.js";
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
}

export interface SpeedOptions {
  /** Lengths of prompts, in tokens. */
  prompts: readonly number[];
  /** Numbers of tokens to generate. */
  generations: readonly number[];
  repetitions: number;
  /** Tokens in the cache before each test. */
  depth: number;
}

/**
 * Measures a model. The tests take turns, so that a slow moment of the machine does not hit one of them alone, after one round that does
 * not count. Tokens are arbitrary but the same in every run: a mixture's speed depends on how many experts they use.
 * Throws ERR_SWITCHYARD_USAGE for a test that does not fit the model's context.
 */
export function measureSpeed(model: LanguageModel, { prompts, generations, repetitions, depth }: SpeedOptions, peaks?: Peaks): SpeedTest[] {
  const tests = [...prompts.map((n) => ({ name: `pp${n}`, n, step: prefillTokens })), ...generations.map((n) => ({ name: `tg${n}`, n, step: 1 }))];
  for (const { name, n } of tests) {
    check(
      Number.isInteger(n) && n >= 1 && depth + n <= model.config.context,
      "ERR_SWITCHYARD_USAGE",
      () => `bench: ${name} after ${depth} tokens: expected 1 to ${model.config.context - depth} tokens, the model's context`,
    );
  }
  const longest = Math.max(...tests.map(({ n }) => n));
  using cache = new KvCache(model.engine, model.config, depth + longest);
  using arena = new Arena(model.engine);
  const run = (n: number, step: number) => {
    for (let done = 0; done < n; done += step) runTokens(model, arena, cache, Math.min(step, n - done));
  };
  const rates = tests.map((): number[] => []);
  for (let round = 0; round <= repetitions; round++) {
    for (const [i, { n, step }] of tests.entries()) {
      cache.truncate(depth);
      if (cache.length < depth) run(depth - cache.length, prefillTokens);
      const start = performance.now();
      run(n, step);
      if (round > 0) rates[i]?.push((1000 * n) / (performance.now() - start));
    }
  }
  const work = workPerToken(model);
  return tests.map(({ name, n, step }, i) => {
    const sorted = (rates[i] as number[]).toSorted((a, b) => a - b);
    const median = ((sorted[(sorted.length - 1) >> 1] as number) + (sorted[sorted.length >> 1] as number)) / 2;
    const bytesPerToken = step === 1 ? work.weightBytes + work.cacheBytes * (depth + n / 2) : null;
    const needed = bytesPerToken === null ? work.operations / (peaks?.operations ?? 0) : bytesPerToken / (peaks?.bandwidth ?? 0);
    const percentOfPeak = peaks === undefined ? null : 100 * median * needed;
    return { test: name, tokensPerSecond: median, fastest: sorted.at(-1) as number, slowest: sorted[0] as number, repetitions, bytesPerToken, percentOfPeak };
  });
}

/** One step of generation or of a prompt: `count` tokens, and the logits of the last one. */
function runTokens(model: LanguageModel, arena: Arena, cache: KvCache, count: number): void {
  arena.reset();
  const tape = new Tape(model.engine, arena);
  const ids = Int32Array.from({ length: count }, (_, i) => ((cache.length + i) * 7919 + 100) % model.config.vocab);
  const { hidden } = forward(tape, model, { ids: tape.constant([count], ids, "i32"), batch: [{ cache, length: count }] });
  model.engine.read(logits(tape, model, view(hidden, [1, hidden.cols], (count - 1) * hidden.cols)));
}
