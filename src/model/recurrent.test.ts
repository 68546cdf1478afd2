import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { nativeVariants } from "../../test/engines.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { ReferenceEngine } from "../engine/reference.js";
import { Model } from "../generate/model.js";
import { Session } from "../generate/session.js";
import { KvCache } from "./cache.js";
import { LanguageModel } from "./language-model.js";
import type { MixerConfig, ModelConfig } from "./config.js";
import { modelConfig } from "./presets.js";
import type { CachedSequence } from "./sequences.js";
import { forward, logits, loss } from "./transformer.js";

const vocab = 61;
const kinds: Record<string, MixerConfig> = {
  shortConv: { kind: "shortConv", kernel: 3, bias: true },
  deltaNet: { kind: "deltaNet", heads: 4, keyHeads: 2, keyDim: 8, valueDim: 12, kernel: 4 },
  lightning: { kind: "lightning" },
  mamba: { kind: "mamba", channels: 40, states: 5, rank: 3, kernel: 4, kernelBias: true, bias: false },
};

const engines = [["reference", () => new ReferenceEngine()] as const, ...nativeVariants.map((isa) => [`native ${isa}`, () => loadEngine({ engine: "native", isa })] as const)];

/** Three layers: the mixer, attention, the mixer. */
function build(engine: ReturnType<(typeof engines)[number][1]>, kind: MixerConfig): LanguageModel {
  const plain = modelConfig({ vocab, width: 32, layers: 3, heads: 4, kvHeads: 2, context: 48, hidden: 40, moe: { experts: 5, active: 2, hidden: 24 } });
  const model = LanguageModel.create({ config: { ...plain, mixers: [kind, plain.mixers[1] as MixerConfig, kind] }, engine, seed: 3 });
  // Default weights hardly mix and route almost uniformly; larger ones decide.
  for (const { tensor, init } of model.parameters.list) if ("std" in init) engine.scale(tensor, tensor, 8);
  return model;
}

const tokensOf = (n: number, seed = 1) => Int32Array.from({ length: n }, (_, i) => (seed * 7919 + i * i * 31 + i * 17) % vocab);

function run(model: LanguageModel, ids: Int32Array, batch: number | CachedSequence[]): Float32Array {
  using arena = new Arena(model.engine, 2 ** 22);
  const tape = new Tape(model.engine, arena);
  return Float32Array.from(model.engine.read(logits(tape, model, forward(tape, model, { ids: tape.constant([ids.length], ids, "i32"), batch }).hidden)));
}

describe.each(engines)("on %s", (_, make) => {
  describe.each(Object.entries(kinds))("%s", (__, kind) => {
    it("a batch of 3 equals three singles", () => {
      using model = build(make(), kind);
      const rows = [1, 2, 3].map((seed) => tokensOf(29, seed));
      expect(run(model, Int32Array.from(rows.flatMap((row) => [...row])), 3)).toEqual(Float32Array.from(rows.flatMap((row) => [...run(model, row, 1)])));
    });

    it("cached equals uncached, token by token and in pieces; going back means starting again", () => {
      using model = build(make(), kind);
      const ids = tokensOf(40);
      const whole = run(model, ids, 1);
      using cache = new KvCache(model.engine, model.config, 48);
      const goOn = (to: number) => [...run(model, ids.subarray(cache.length, to), [{ cache, length: to - cache.length }])];
      expect(Float32Array.from([17, 18, 19, 32, 33, 34, 35, 40].flatMap(goOn))).toEqual(whole);
      cache.truncate(20);
      expect(cache.length).toBe(0);
      expect(Float32Array.from([3, 40].flatMap(goOn))).toEqual(whole);
    });

    it("is saved and loaded with the same bits", async () => {
      const folder = mkdtempSync(join(tmpdir(), "switchyard-mixers-"));
      using model = build(make(), kind);
      await model.save(join(folder, "m"));
      using loaded = await LanguageModel.load(join(folder, "m"), { engine: model.engine });
      expect(run(loaded, tokensOf(20), 1)).toEqual(run(model, tokensOf(20), 1));
      rmSync(folder, { recursive: true });
    });

    it("sequences of different lengths go on together as each alone", () => {
      using model = build(make(), kind);
      const sequences = [5, 23, 1].map((n, seed) => ({ ids: tokensOf(n + 4, seed), n, cache: new KvCache(model.engine, model.config, n + 4) }));
      const together = (from: (n: number) => number, to: (n: number) => number) =>
        run(model, Int32Array.from(sequences.flatMap(({ ids, n }) => [...ids.subarray(from(n), to(n))])), sequences.map(({ cache, n }) => ({ cache, length: to(n) - from(n) })));
      const [first, rest] = [together(() => 0, (n) => n), together((n) => n, (n) => n + 4)];
      const alone = sequences.map(({ ids }) => run(model, ids, 1));
      expect(first).toEqual(Float32Array.from(alone.flatMap((all, i) => [...all.subarray(0, sequences[i]!.n * vocab)])));
      expect(rest).toEqual(Float32Array.from(alone.flatMap((all, i) => [...all.subarray(sequences[i]!.n * vocab)])));
      for (const { cache } of sequences) cache[Symbol.dispose]();
    });
  });
});

it.each(Object.entries<MixerConfig>({ ...kinds, tables: { kind: "lightning", tables: 8 } }))("%s: training is refused", (_, kind) => {
  using model = build(new ReferenceEngine(), kind);
  model.parameters.requireGradients();
  using arena = new Arena(model.engine, 2 ** 22);
  const tape = new Tape(model.engine, arena, { recording: true, training: true });
  const ids = tape.constant([8], tokensOf(8), "i32");
  expect(() => loss(tape, model, { ids, batch: 2 }, ids)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED" }));
});

describe("layers that cannot go on from any cache", () => {
  const latent = { rank: 8, queryRank: 12, unrotated: 6, value: 5, normEps: 1e-6 };
  const sizes = { vocab, width: 32, layers: 3, heads: 4, context: 48, hidden: 40, moe: { experts: 5, active: 2, hidden: 24 } };
  const plain = modelConfig(sizes);
  const kindsOf = (index: number): Record<string, ModelConfig> => ({
    "lightning attention by tables": { ...plain, mixers: [{ kind: "lightning", tables: 8 }, plain.mixers[1]!, { kind: "lightning" }] },
    "tables and attention": { ...plain, mixers: [{ kind: "lightning", tables: 8 }, plain.mixers[1]!, { kind: "lightning", tables: 8 }] },
    "an indexer of few heads": { ...plain, latent, kvHeads: 4, mixers: plain.mixers.map(() => ({ kind: "latent", rope: 0, index: { heads: index, headDim: 8, topK: 5 } })), ropes: [{ theta: 1e4, rotary: 2, interleaved: true }] },
  });
  const create = (config: ModelConfig) => {
    const engine = loadEngine();
    const model = Model.create({ config, engine, seed: 3 });
    for (const { tensor, init } of model.parameters.list) if ("std" in init) engine.scale(tensor, tensor, 8);
    return model;
  };

  it.each(Object.entries(kindsOf(2)))("%s: each token is that of a run from the start, also in a session", async (_, config) => {
    using model = create(config);
    using session = new Session(model);
    const answer = async (chunks: AsyncIterable<{ token: number }>) => {
      const tokens: number[] = [];
      for await (const { token } of chunks) tokens.push(token);
      return tokens;
    };
    const options = { temperature: 0, maxTokens: 6 };
    for (const prompt of [tokensOf(9), tokensOf(12), tokensOf(9, 2), tokensOf(3, 2), tokensOf(30, 2), tokensOf(33, 2)]) {
      const ids = [...prompt];
      for (let i = 0; i < 6; i++) {
        const last = run(model, Int32Array.from(ids), 1).slice(-vocab);
        ids.push(last.indexOf(Math.max(...last)));
      }
      expect(await answer(model.generate(prompt, options))).toEqual(ids.slice(prompt.length));
      expect(await answer(session.generate(prompt, options))).toEqual(ids.slice(prompt.length));
    }
  });

  it.each(engines)("on %s go on from where nothing changes any more, with the same bits", (__, make) => {
    for (const [kind, steps] of [["tables and attention", [[20, 0], [21, 16], [24, 16], [25, 24], [40, 24]]], ["an indexer of few heads", [[3, 0], [4, 3], [5, 4], [6, 0], [7, 0], [4, 0], [5, 4]]]] as const) {
      const engine = make();
      using model = Model.create({ config: kindsOf(2)[kind]!, engine, seed: 3 });
      for (const { tensor, init } of model.parameters.list) if ("std" in init) engine.scale(tensor, tensor, 8);
      using cache = new KvCache(engine, model.config, 48);
      for (const [length, kept] of steps) {
        cache.expect(length);
        expect([kind, length, cache.length]).toEqual([kind, length, kept]);
        const ids = tokensOf(length);
        expect(run(model, ids.subarray(kept), [{ cache, length: length - kept }])).toEqual(run(model, ids, 1).subarray(kept * vocab));
      }
    }
  });

  it("tables refuse to go on from within a block", () => {
    using model = create(kindsOf(2)["lightning attention by tables"]!);
    using cache = new KvCache(model.engine, model.config, 48);
    run(model, tokensOf(4), [{ cache, length: 4 }]);
    expect(() => run(model, tokensOf(4), [{ cache, length: 4 }])).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE" }));
  });

  it("an indexer of many heads goes on, with the same bits", () => {
    using model = create(kindsOf(16)["an indexer of few heads"]!);
    using cache = new KvCache(model.engine, model.config, 48);
    expect(cache.keeps).toBe(true);
    const ids = tokensOf(30);
    const pieces = [7, 8, 9, 20, 30].flatMap((to) => [...run(model, ids.subarray(cache.length, to), [{ cache, length: to - cache.length }])]);
    expect(Float32Array.from(pieces)).toEqual(run(model, ids, 1));
  });
});

it.each(engines)("on %s a sequence starts again beside keys that are kept as f16", (_, make) => {
  using model = build(make(), kinds.shortConv!);
  using cache = new KvCache(model.engine, model.config, 48, "f16");
  const goOn = (to: number) => run(model, tokensOf(12).subarray(cache.length, to), [{ cache, length: to - cache.length }]);
  const whole = goOn(12);
  cache.truncate(4);
  expect(cache.length).toBe(0);
  expect(goOn(12)).toEqual(whole);
});

it("a pass that fails half way leaves a cache that starts again", () => {
  using model = build(new ReferenceEngine(), kinds.deltaNet!);
  using cache = new KvCache(model.engine, model.config, 48);
  const ids = tokensOf(12);
  const whole = run(model, ids, 1);
  run(model, ids.subarray(0, 4), [{ cache, length: 4 }]);
  model.router = () => {
    throw new Error("no");
  };
  expect(() => run(model, ids.subarray(4), [{ cache, length: 8 }])).toThrow("no");
  model.router = undefined;
  cache.truncate(4);
  expect(cache.length).toBe(0);
  expect(run(model, ids, [{ cache, length: 12 }])).toEqual(whole);
});
