import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { forward, logits } from "../model/transformer.js";
import { routerConfig } from "../routing/presets.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { evaluate } from "./evaluate.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-evaluate-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = modelConfig({ vocab: 256, width: 16, layers: 2, heads: 2, context: 8, moe: { experts: 4, active: 2, hidden: 8 } });
/** Where an expert has room for half of its even share. */
const crowded = modelConfig({ vocab: 256, width: 16, layers: 2, heads: 2, context: 8, moe: { experts: 4, active: 2, hidden: 8, router: routerConfig("gshard", { capacity: { train: 1, eval: 0.5, drop: "position" } }) } });
const text = "Which expert took which token, and with what weight?";

describe("evaluate", () => {
  const bare = LanguageModel.create({ config, seed: 1 });
  afterAll(() => bare[Symbol.dispose]());

  it("has the same result from a file, from its tokens, and in batches of any size", async () => {
    using model = LanguageModel.create({ config, seed: 1, tokenizer: byteTokenizer() });
    const file = join(root, "text.txt");
    writeFileSync(file, text);
    const tokens = Int32Array.from(Buffer.from(text));
    const whole = await evaluate(model, { data: file });
    expect(whole.tokens).toBe(tokens.length - 1);
    expect(whole.routing.map(({ layer }) => layer)).toEqual([0, 1]);
    for (const settings of [{ data: [file] }, { data: tokens }, { data: tokens, batch: 1 }]) expect((await evaluate(model, settings)).loss).toBeCloseTo(whole.loss, 6);
    expect((await evaluate(model, { data: tokens, context: 4 })).loss).not.toBeCloseTo(whole.loss, 6);
  });

  it.each([49, 50, 52])("of %i tokens is what windows one by one come to, each token after the first counted once", async (length) => {
    using model = LanguageModel.create({ config: crowded, seed: 1 });
    const tokens = Int32Array.from(Buffer.from(text).subarray(0, length));
    const { loss, tokens: counted, routing } = await evaluate(model, { data: tokens, batch: 1 });
    const { engine } = model;
    let total = 0;
    const layers = crowded.sparseLayers.map(() => ({ load: [0, 0, 0, 0], dropped: 0, empty: 0 }));
    for (let start = 0; start + 1 < length; start += 8) {
      using arena = new Arena(engine);
      const tape = new Tape(engine, arena);
      const inputs = tokens.subarray(start, Math.min(start + 8, length - 1));
      const { hidden, routings } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch: 1 });
      const logits_TV = Array.from(engine.read(logits(tape, model, hidden)));
      for (const t of inputs.keys()) {
        const row = logits_TV.slice(t * 256, (t + 1) * 256);
        total += Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - row[tokens[start + t + 1]!]!;
      }
      for (const [l, { experts, chosen }] of routings.entries()) {
        const [kept, wanted] = [engine.read(experts), engine.read(chosen!)];
        for (const e of wanted) layers[l]!.load[e]!++;
        layers[l]!.dropped += kept.filter((e) => e < 0).length;
        for (const t of inputs.keys()) if (kept[2 * t]! < 0 && kept[2 * t + 1]! < 0) layers[l]!.empty++;
      }
    }
    expect(counted).toBe(length - 1);
    expect(loss).toBeCloseTo(total / (length - 1), 5);
    const choices = 2 * (length - 1);
    expect(routing).toMatchObject(layers.map(({ load, dropped, empty }) => ({ load: load.map((n) => n / choices), dropped: dropped / choices, fully_dropped: empty / (length - 1) })));
    expect(Math.min(...routing.map((layer) => layer.fully_dropped))).toBeGreaterThan(0);
  });

  it("has the logits of 128 tokens in memory at a time", async () => {
    using model = LanguageModel.create({ config: { ...config, context: 128 }, seed: 1 });
    const data = Int32Array.from({ length: 385 }, (_, i) => (i * 79) % config.vocab);
    const spy = vi.spyOn(model.engine, "crossEntropy");
    const { loss } = await evaluate(model, { data, batch: 3 });
    const places = spy.mock.calls.map(([, { rows, storage }]) => [rows, typeof storage === "number" ? storage : storage.byteOffset]);
    spy.mockRestore();
    expect(places).toEqual(Array(3).fill([128, places[0]![1]]));
    expect((await evaluate(model, { data, batch: 1 })).loss).toBeCloseTo(loss, 6);
  });

  it("refuses weights that give no number", async () => {
    using broken = LanguageModel.create({ config, seed: 1 });
    const [{ tensor }] = broken.parameters.list as [(typeof broken.parameters.list)[number]];
    broken.engine.fill(tensor, NaN);
    await expect(evaluate(broken, { data: Int32Array.from(Buffer.from(text)) })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DIVERGED", message: expect.stringMatching(/the loss is NaN; the weights are broken/) });
  });

  it("refuses what cannot be read", async () => {
    const refused = (settings: Parameters<typeof evaluate>[1], code: string) => expect(evaluate(bare, settings)).rejects.toMatchObject({ code: `ERR_SWITCHYARD_${code}` });
    await refused({ data: join(root, "text.txt") }, "USAGE");
    await refused({ data: Int32Array.of(1, 256, 2) }, "DATA");
    await refused({} as Parameters<typeof evaluate>[1], "USAGE");
    await refused({ data: Int32Array.of(1, 2), context: 9 }, "USAGE");
    await refused({ data: Int32Array.of(1, 2), batch: 0 }, "USAGE");
    await refused({ data: new Int32Array(50), signal: AbortSignal.abort() }, "ABORTED");
  });
});
