/** Results that must be equal bit for bit, whatever the batch, the cache, the threads, and however often a run was stopped. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import type { Engine } from "../src/engine/engine.js";
import { loadEngine } from "../src/engine/load.js";
import { ReferenceEngine } from "../src/engine/reference.js";
import { KvCache } from "../src/model/cache.js";
import { LanguageModel } from "../src/model/language-model.js";
import { modelConfig, type MoeOptions } from "../src/model/presets.js";
import type { CachedSequence } from "../src/model/sequences.js";
import { forward, logits } from "../src/model/transformer.js";
import type { Balance } from "../src/routing/types.js";
import type { StepRecord } from "../src/train/log/record.js";
import { train, type TrainStep } from "../src/train/train.js";
import { nativeVariants } from "./engines.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-exact-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const engines: [string, (threads?: number) => Engine][] = [
  ["reference", () => new ReferenceEngine({ float: "f32" })],
  ...nativeVariants.map((isa): [string, (threads?: number) => Engine] => [`native ${isa}`, (threads) => loadEngine({ engine: "native", isa, threads })]),
];

const small = { vocab: 61, width: 32, layers: 3, heads: 4, kvHeads: 2, context: 48, hidden: 40 };
const mixtures: Record<string, MoeOptions | false> = {
  dense: false,
  mixtral: { experts: 5, active: 2, hidden: 24 },
  "olmoe, every other layer": { experts: 6, active: 3, hidden: 16, router: "olmoe", layers: "every-other" },
  "shared expert": { experts: 4, active: 1, hidden: 24, shared: 1 },
};

function build(engine: Engine, moe: MoeOptions | false = mixtures["mixtral"]!): LanguageModel {
  const model = LanguageModel.create({ config: modelConfig({ ...small, moe }), engine, seed: 3 });
  // Default weights route almost uniformly; larger ones decide.
  for (const { tensor, init } of model.parameters.list) if ("std" in init) engine.scale(tensor, tensor, 8);
  return model;
}

const tokensOf = (n: number, seed = 1) => Int32Array.from({ length: n }, (_, i) => (seed * 7919 + i * i * 31 + i * 17) % small.vocab);

function run(model: LanguageModel, ids: Int32Array, batch: number | CachedSequence[]): Float32Array {
  using arena = new Arena(model.engine, 2 ** 22);
  const tape = new Tape(model.engine, arena);
  return Float32Array.from(model.engine.read(logits(tape, model, forward(tape, model, { ids: tape.constant([ids.length], ids, "i32"), batch }).hidden)));
}

describe.each(engines)("on %s", (_, make) => {
  it.each(Object.entries(mixtures))("%s: a batch of 3 equals three singles", (__, moe) => {
    using model = build(make(), moe);
    const rows = [1, 2, 3].map((seed) => tokensOf(29, seed));
    const batched = run(model, Int32Array.from(rows.flatMap((row) => [...row])), 3);
    const single = Float32Array.from(rows.flatMap((row) => [...run(model, row, 1)]));
    expect(batched).toEqual(single);
  });

  it.each(Object.entries(mixtures))("%s: cached equals uncached, token by token and in pieces", (__, moe) => {
    using model = build(make(), moe);
    const ids = tokensOf(40);
    const whole = run(model, ids, 1);
    using cache = new KvCache(model.engine, model.config, 48);
    const cut = [0, 17, 18, 19, 32, ...Array.from({ length: 8 }, (___, i) => 33 + i)];
    const goOn = (from: number, to = ids.length) => run(model, ids.subarray(from, to), [{ cache, length: to - from }]);
    const pieces = cut.slice(1).flatMap((end, i) => [...goOn(cut[i]!, end)]);
    expect(Float32Array.from(pieces)).toEqual(whole);
    cache.truncate(20);
    expect(goOn(20)).toEqual(whole.subarray(20 * small.vocab));
  });

  it("keys and values kept as f16 give the same bits in any pieces, close to those of f32", () => {
    using model = build(make());
    const ids = tokensOf(40);
    const inPieces = (...ends: number[]) => {
      using cache = new KvCache(model.engine, model.config, 48, "f16");
      return Float32Array.from(ends.flatMap((end, i) => [...run(model, ids.subarray(ends[i - 1] ?? 0, end), [{ cache, length: end - (ends[i - 1] ?? 0) }])]));
    };
    const whole = inPieces(40);
    expect(inPieces(17, 18, 19, 32, ...Array.from({ length: 8 }, (__, i) => 33 + i))).toEqual(whole);
    // Within f16's rounding, but for tokens whose last expert was chosen by less.
    const exact = run(model, ids, 1);
    const far = whole.filter((x, i) => Math.abs(x - exact[i]!) > 0.02 * Math.max(...exact));
    expect(far.length).toBeLessThan(whole.length / 10);
    expect(whole).not.toEqual(exact);
  });

  it.each(Object.entries(mixtures))("%s: sequences of different lengths go on together as each alone", (__, moe) => {
    using model = build(make(), moe);
    const sequences = [5, 23, 1, 12].map((n, seed) => ({ ids: tokensOf(n + 4, seed), start: n, cache: new KvCache(model.engine, model.config, n + 4) }));
    const together = (from: (s: (typeof sequences)[0]) => number, to: (s: (typeof sequences)[0]) => number) =>
      run(model, Int32Array.from(sequences.flatMap((s) => [...s.ids.subarray(from(s), to(s))])), sequences.map((s) => ({ cache: s.cache, length: to(s) - from(s) })));
    const first = together(() => 0, (s) => s.start);
    const rest = together((s) => s.start, (s) => s.start + 4);
    const alone = sequences.map((s) => ({ ...s, logits: run(model, s.ids, 1) }));
    expect(first).toEqual(Float32Array.from(alone.flatMap((s) => [...s.logits.subarray(0, s.start * small.vocab)])));
    expect(rest).toEqual(Float32Array.from(alone.flatMap((s) => [...s.logits.subarray(s.start * small.vocab)])));
    for (const { cache } of sequences) cache[Symbol.dispose]();
  });

  it("saves and loads the same bits", async () => {
    const engine = make();
    using model = build(engine);
    const folder = join(root, `saved-${Math.random()}`);
    await model.save(folder);
    using loaded = await LanguageModel.load(folder, { engine });
    expect(loaded.config).toEqual({ ...model.config, hidden: loaded.config.hidden, published: expect.any(Object), moe: { ...model.config.moe, router: loaded.config.moe?.router } });
    expect(run(loaded, tokensOf(30), 1)).toEqual(run(model, tokensOf(30), 1));
  });
});

const balances: Record<string, Partial<MoeOptions>> = Object.fromEntries(
  (
    [
      { method: "none" },
      { method: "switch", coefficient: 0.01 },
      { method: "gshard", coefficient: 0.01 },
      { method: "importance", coefficient: 0.01 },
      { method: "load", coefficient: 0.01 },
      { method: "entropy", coefficient: 0.01 },
      { method: "loss-free", rate: 0.01, update: "sign" },
      { method: "loss-free", rate: 0.01, update: "proportional" },
    ] satisfies Balance[]
  ).map((balance) => [`${balance.method}${"update" in balance ? ` ${balance.update}` : ""}`, { balance, zLoss: 0.001 }]),
);
balances["noisy top-k"] = { router: "shazeer" };
balances["switch with jitter and capacity"] = { router: "switch", active: 1 };

const data = Uint16Array.from({ length: 1500 }, (_, i) => (i * i + 3 * i + (i % 7)) % small.vocab);
const options = { data, steps: 20, batch: 3, accumulation: 2, context: 16, learningRate: 3e-3, dropout: 0.1, evalEvery: 5, evalTokens: 64, checkpointEvery: 10, logEvery: 5, seed: 11 };

/** Everything that a run leaves behind: losses per step, weights and moments. */
async function result(model: LanguageModel, settings: Partial<typeof options> & { out?: string; resume?: boolean; stopAt?: number }) {
  const { stopAt, ...rest } = settings;
  const stop = new AbortController();
  const steps: TrainStep[] = [];
  for await (const step of train(model, { ...options, ...rest, signal: stop.signal })) {
    steps.push(step);
    if (step.index === stopAt) stop.abort();
  }
  const weights = model.parameters.list.map(({ name, tensor }) => [name, ...model.engine.read(tensor)]);
  return { losses: steps.map(({ index, loss, norms }) => [index, loss, norms.total]), evaluations: steps.flatMap(({ evaluation }) => (evaluation === undefined ? [] : [evaluation.loss])), weights };
}

const trainEngine = (threads?: number) => (nativeVariants.length > 0 ? loadEngine({ engine: "native", threads }) : new ReferenceEngine({ float: "f32" }));

describe("training", () => {
  it.each(Object.entries(balances))("20 steps equal 10, a stop, and 10 more: %s", async (name, moe) => {
    const fresh = () => build(trainEngine(), { ...(mixtures["mixtral"] as MoeOptions), ...moe });
    using whole = fresh();
    const uninterrupted = await result(whole, {});
    const out = join(root, `run-${name.replaceAll(" ", "-")}`);
    using first = fresh();
    const begin = await result(first, { out, stopAt: 10 });
    using second = fresh();
    const end = await result(second, { out, resume: true });
    expect(end.losses[0]?.[0]).toBe(11);
    expect([...begin.losses, ...end.losses]).toEqual(uninterrupted.losses);
    expect([...begin.evaluations, ...end.evaluations]).toEqual(uninterrupted.evaluations);
    expect(end.weights).toEqual(uninterrupted.weights);
    const records = readFileSync(join(out, "train.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line) as StepRecord);
    expect(records.map(({ step }) => step)).toEqual([1, 5, 10, 15, 20]);
    expect(records.every(({ flops_s, mfu }) => (nativeVariants.length > 0 ? flops_s / mfu! > 1e9 : mfu === null))).toBe(true);
  });

  it.skipIf(nativeVariants.length === 0)("1 thread equals 2 threads", async () => {
    const [one, two] = await Promise.all([1, 2].map(async (threads) => {
      using model = build(trainEngine(threads));
      return await result(model, { steps: 6 });
    }));
    expect(two).toEqual(one);
  });

  it("resuming on other data is refused", async () => {
    const out = join(root, "other-data");
    using model = build(trainEngine());
    await result(model, { out, steps: 2 });
    await expect(result(model, { out, resume: true, data: data.toReversed() })).rejects.toThrow(/training data is not what/);
  });
});
