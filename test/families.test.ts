/** What must hold of every published family, whatever its weights: equal bits however a text is cut, and a folder that is read as it was written. */
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import { loadEngine } from "../src/engine/load.js";
import { openCheckpointTensors } from "../src/formats/checkpoint.js";
import { readJsonFile } from "../src/formats/json.js";
import { Model } from "../src/generate/model.js";
import { readGolden } from "../src/inspect/golden.js";
import { KvCache } from "../src/model/cache.js";
import { families } from "../src/model/families/families.js";
import { LanguageModel } from "../src/model/language-model.js";
import type { CachedSequence } from "../src/model/sequences.js";
import { forward, logits } from "../src/model/transformer.js";

const goldens = new URL("../../shared/goldens/", import.meta.url).pathname;
const absent = !existsSync(goldens);
const root = mkdtempSync(join(tmpdir(), "switchyard-families-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** The golden of each family. */
const folders: Record<string, string> = { kimi_k2: "deepseek_v3", llama4_text: "llama4", mistral3: "mistral4", qwen3_5_moe_text: "qwen3_5_moe" };
const cases = families.map(({ modelType }): [string, string] => [modelType, join(goldens, folders[modelType] ?? modelType)]);

function run(model: LanguageModel, ids: readonly number[], batch: number | CachedSequence[]): Float32Array {
  using arena = new Arena(model.engine, 2 ** 22);
  const tape = new Tape(model.engine, arena);
  return Float32Array.from(model.engine.read(logits(tape, model, forward(tape, model, { ids: tape.constant([ids.length], ids, "i32"), batch }).hidden)));
}

describe.skipIf(absent).each(cases)("%s (needs ../shared/goldens)", (family, folder) => {
  const engine = loadEngine();
  const load = () => LanguageModel.load(folder, { engine });
  const [first = [], second = []] = absent ? [] : readGolden(folder).ids;

  it("a batch of 4 equals four singles", async () => {
    using model = await load();
    const rows = [first.slice(0, 20), second.slice(0, 20), first.slice(20), second.slice(20)];
    expect(run(model, rows.flat(), 4)).toEqual(Float32Array.from(rows.flatMap((row) => [...run(model, row, 1)])));
  });

  it("cached equals uncached, in pieces, after a cut, and beside another sequence", async () => {
    using model = await load();
    const { vocab } = model.config;
    const whole = run(model, first, 1);
    using cache = new KvCache(engine, model.config, first.length);
    if (!cache.keeps) return; // such a model is run from the start for every token
    const goOn = (from: number, to: number) => run(model, first.slice(from, to), [{ cache, length: to - from }]);
    const cuts = [0, 7, 8, 9, 25, 26, first.length];
    expect(Float32Array.from(cuts.slice(1).flatMap((end, i) => [...goOn(cuts[i]!, end)]))).toEqual(whole);
    cache.truncate(20);
    const kept = cache.length;
    expect(goOn(kept, first.length)).toEqual(whole.subarray(kept * vocab));

    using one = new KvCache(engine, model.config, 30);
    using other = new KvCache(engine, model.config, 40);
    const step = (a: [number, number], b: [number, number]) =>
      run(model, [...first.slice(...a), ...second.slice(...b)], [{ cache: one, length: a[1] - a[0] }, { cache: other, length: b[1] - b[0] }]);
    const together = [step([0, 5], [0, 23]), step([5, 9], [23, 24])];
    const alone = [run(model, first.slice(0, 9), 1), run(model, second.slice(0, 24), 1)] as const;
    const rows = (x: Float32Array, from: number, to: number) => [...x.subarray(from * vocab, to * vocab)];
    expect(together[0]).toEqual(Float32Array.from([...rows(alone[0], 0, 5), ...rows(alone[1], 0, 23)]));
    expect(together[1]).toEqual(Float32Array.from([...rows(alone[0], 5, 9), ...rows(alone[1], 23, 24)]));
  });

  it("saved and read again it is the same, under the published names and with the published config", async () => {
    using model = await load();
    const target = join(root, family);
    await model.save(target);
    using back = await LanguageModel.load(target, { engine });
    expect(run(back, first, 1)).toEqual(run(model, first, 1));
    const computed = /\.(query_decay|key_decay|diagonal_decay|slope_rate)$/; // MiniMax's, which transformers makes of the config
    const shapes = (path: string) => [...openCheckpointTensors(path)].filter(([name]) => !computed.test(name)).map(([name, { shape }]) => `${name} [${shape.join(", ")}]`).sort();
    expect(shapes(target)).toEqual(shapes(folder));
    const { architectures, model_type } = readJsonFile(join(folder, "config.json")) as Record<string, unknown>;
    expect(readJsonFile(join(target, "config.json"))).toMatchObject({ architectures, model_type });
    expect({ ...back.config, published: undefined }).toEqual({ ...model.config, published: undefined });
  });
});

describe.skipIf(absent)("a rotary embedding that goes by the length (needs ../shared/goldens)", () => {
  it("across its boundary, generation is what uncached runs give; a cache alone refuses to cross it", async () => {
    const folder = join(root, "longrope");
    cpSync(join(goldens, "phimoe"), folder, { recursive: true });
    const config = readJsonFile(join(folder, "config.json")) as Record<string, unknown>;
    const scaling = { type: "longrope", short_factor: [1, 1.1, 1.2, 1.3], long_factor: [1, 2, 3, 4], short_mscale: 1.1, long_mscale: 1.5, original_max_position_embeddings: 22 };
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, rope_scaling: scaling }));
    using model = await Model.load(folder, { engine: loadEngine() });
    const ids = readGolden(folder).ids[0]!.slice(0, 16);
    const want = [...ids];
    for (let i = 0; i < 14; i++) {
      const last = run(model, want, 1).subarray(-model.config.vocab);
      want.push(last.indexOf(Math.max(...last)));
    }
    const got: number[] = [];
    for await (const { token } of model.generate(Int32Array.from(ids), { temperature: 0, maxTokens: 14 })) got.push(token);
    expect([...ids, ...got]).toEqual(want);

    using cache = new KvCache(model.engine, model.config, 30);
    run(model, want.slice(0, 20), [{ cache, length: 20 }]);
    expect(() => run(model, want.slice(20, 25), [{ cache, length: 5 }])).toThrow(/a sequence of 25 tokens turns the 20 that are kept otherwise/);
    cache.expect(25);
    expect(cache.length).toBe(0);
    expect(run(model, want.slice(0, 25), [{ cache, length: 25 }])).toEqual(run(model, want.slice(0, 25), 1));
  });
});
