import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { sameBits } from "../../../test/engines.js";
import { engines } from "../../../test/op-maker.js";
import { Tape } from "../../autograd/tape.js";
import { Arena } from "../../engine/arena.js";
import { ReferenceEngine } from "../../engine/reference.js";
import type { Json } from "../../formats/json.js";
import { type Tensor, view } from "../../tensor/tensor.js";
import { readSwitchConfig, writeSwitchConfig } from "../families/switch.js";
import { DecoderCache } from "./cache.js";
import { EncoderDecoderModel } from "./model.js";
import { decode, encode, readSources, sparseBlock, vocabularyLogits } from "./stacks.js";

const json = {
  model_type: "switch_transformers", vocab_size: 50, d_model: 24, d_kv: 8, d_ff: 32, num_layers: 3, num_decoder_layers: 4, num_heads: 3, num_experts: 4,
  expert_capacity: 3, num_sparse_encoder_layers: 1, encoder_sparse_step: 2, num_sparse_decoder_layers: 2, router_bias: true, eos_token_id: 1,
};
const configOf = (changes: Record<string, unknown> = {}) => readSwitchConfig({ ...json, ...changes } as Json, "config.json");

const temporary = mkdtempSync(join(tmpdir(), "switchyard-encoder-decoder-"));
afterAll(() => rmSync(temporary, { recursive: true, force: true }));

describe.each(engines.map((engine) => [`${engine.name} ${engine.isa}`, engine] as const))("encoder-decoder on %s", (_, engine) => {
  it("gives a sequence the same bits token by token and in one pass, alone and in a batch, with tokens dropped", () => {
    using model = EncoderDecoderModel.create({ config: configOf(), seed: 3, engine });
    const tape = new Tape(engine, new Arena(engine));
    const i32 = (ids: readonly number[]) => tape.constant([ids.length], ids, "i32");
    const [source, target] = [Array.from({ length: 2 * 9 }, (__, i) => (i * 7) % 50), Array.from({ length: 2 * 12 }, (__, i) => (i * 11) % 50)];
    const whole = model.forward(tape, i32(source), i32(target), 2);
    expect(whole.decoder.map(({ dropped }) => dropped).every((n) => n > 0)).toBe(true);
    const rows = (t: Tensor, first: number, n: number) => engine.read(view(t, [n, t.cols], first * t.cols));

    using cache = new DecoderCache(engine, model.config, 9, 20);
    const encoded = encode(tape, model, i32(source.slice(9)), 1);
    readSources(tape, model, encoded.hidden, [cache]);
    let dropped = 0;
    for (let t = 0; t < 12; ) {
      const n = t === 0 ? 3 : 1;
      const { hidden, routings } = decode(tape, model, i32(target.slice(12 + t, 12 + t + n)), [cache]);
      expect(sameBits(engine.read(vocabularyLogits(tape, model, hidden)), rows(whole.logits, 12 + t, n)), `token ${t}`).toBe(true);
      for (const [i, { experts }] of routings.entries()) expect(engine.read(experts), `experts of token ${t}`).toEqual(rows(whole.decoder[i]!.experts, 12 + t, n));
      dropped += routings[0]!.dropped;
      t += n;
    }
    expect(dropped).toBeGreaterThan(0);
    expect(() => decode(tape, model, i32(new Array(9).fill(0)), [cache])).toThrow(/12 \+ 9 tokens do not fit in a cache of 20/);
  });

  // Expected: the mask of transformers 5.23, SwitchTransformersTop1Router in evaluation, with these choices; tokens without an expert come out of its
  // SwitchTransformersSparseMLP as zeros.
  it.each([
    [1, [[0, -1, 1, -1, -1, -1], [0, 1, -1, -1, -1, 2]]],
    [2, [[0, 0, 1, -1, -1, 1], [0, 1, 1, -1, 0, 2]]],
    [3, [[0, 0, 1, 0, -1, 1], [0, 1, 1, 1, 0, 2]]],
    [4, [[0, 0, 1, 0, 0, 1], [0, 1, 1, 1, 0, 2]]],
  ])("with capacity %i an expert takes the first tokens of each sequence, the others get zeros", (capacity, expected) => {
    using model = EncoderDecoderModel.create({ config: configOf({ expert_capacity: capacity, router_bias: false }), seed: 3, engine });
    const tape = new Tape(engine, new Arena(engine));
    const wanted = [[0, 0, 1, 0, 0, 1], [0, 1, 1, 1, 0, 2]];
    engine.write(model.parameters.get("encoder.layers.1.router.weight"), Array.from({ length: 4 * 24 }, (__, i) => (i % 24 === Math.floor(i / 24) ? 1 : 0)));
    const x = tape.constant([12, 24], wanted.flat().flatMap((e) => Array.from({ length: 24 }, (__, d) => (d === e ? 3 : 0.1))));
    const used = [0, 1].map(() => new Int32Array(4));
    const { out, routing } = sparseBlock(tape, model, "encoder", 1, x, used);
    expect(Array.from(engine.read(routing.experts))).toEqual(expected.flat());
    const without = expected.flat().map((e) => e < 0);
    const values = engine.read(out);
    expect(without.map((__, t) => values.subarray(t * 24, (t + 1) * 24).every((v) => v === 0))).toEqual(without);
    expect(Array.from(engine.read(routing.weights), (w) => w === 0)).toEqual(without);
    const drops = without.filter(Boolean).length;
    expect([routing.dropped, routing.fullyDropped]).toEqual([drops, drops]);
    // The choices before any drop.
    expect([...routing.load]).toEqual([6, 5, 1, 0]);
  });
});

describe("encoder-decoder folders", () => {
  const engine = new ReferenceEngine();
  const logitsOf = (model: EncoderDecoderModel) => {
    const tape = new Tape(engine, new Arena(engine));
    const ids = tape.constant([4], [3, 9, 4, 1], "i32");
    return engine.read(model.forward(tape, ids, ids, 1).logits);
  };

  it.each([{}, { tie_word_embeddings: false, dense_act_fn: "gelu_new", eos_token_id: [1, 2] }])("come back as they were saved: %j", async (changes) => {
    using model = EncoderDecoderModel.create({ config: configOf(changes), seed: 1, engine });
    const folder = join(temporary, String(Object.keys(changes).length));
    await model.save(folder);
    using loaded = await EncoderDecoderModel.load(folder, { engine });
    expect(loaded.config).toEqual(model.config);
    expect(sameBits(logitsOf(loaded), logitsOf(model))).toBe(true);
  });

  it("with a tensor of another shape or none are refused by name", async () => {
    using model = EncoderDecoderModel.create({ config: configOf(), seed: 1, engine });
    const folder = join(temporary, "changed");
    await model.save(folder);
    rmSync(join(folder, "manifest.json"));
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;
    const reload = (changes: Record<string, unknown>) => {
      writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, ...changes }));
      return EncoderDecoderModel.load(folder, { engine });
    };
    await expect(reload({ d_ff: 40 })).rejects.toThrow(/"encoder.block.0.layer.1.mlp.wi.weight": config.json says \[40, 24\], the file has \[32, 24\]/);
    await expect(reload({ num_experts: 5 })).rejects.toThrow(/\[5, 24\]/);
    await expect(reload({ num_layers: 5 })).rejects.toThrow(/"encoder.block.3.layer.0.layer_norm.weight" is missing/);
  });

  it("without a tokenizer take ids, and generation stops at an end token", () => {
    using model = EncoderDecoderModel.create({ config: configOf(), seed: 1, engine });
    expect(() => [...model.generate("text", { maxTokens: 1 })]).toThrow(/no tokenizer/);
    expect(() => [...model.generate([50], { maxTokens: 1 })]).toThrow(/token ids below 50/);
    expect(() => [...model.generate([3], { maxTokens: NaN })]).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE", message: expect.stringContaining("maxTokens: expected an integer of at least 1, got NaN") as string }));
    const ids = [...model.generate([3, 4, 5], { maxTokens: 6 })];
    expect(ids).toHaveLength(6);
    const end = ids.at(-1)!;
    using ending = EncoderDecoderModel.create({ config: configOf({ eos_token_id: end }), seed: 1, engine });
    expect([...ending.generate([3, 4, 5], { maxTokens: 6 })]).toEqual(ids.slice(0, ids.indexOf(end)));
  });
});

describe("config.json of Switch Transformers", () => {
  it("places sparse layers at every step-th, the first being 1", () => {
    expect(configOf().encoder).toEqual({ layers: 3, sparseStep: 2 });
    expect(configOf({ encoder_sparse_step: undefined }).encoder.sparseStep).toBe(3);
    expect(configOf({ encoder_sparse_step: undefined, num_sparse_encoder_layers: 0 }).encoder.sparseStep).toBe(3);
    expect(configOf({ num_decoder_layers: null }).decoder.layers).toBe(3);
  });

  it("is written as it is read", () => {
    const config = configOf({ tie_word_embeddings: false, dense_act_fn: "gelu_new", router_jitter_noise: 0 });
    expect(readSwitchConfig(JSON.parse(JSON.stringify(writeSwitchConfig(config))) as Json, "config.json")).toEqual(config);
  });

  it.each<[Record<string, unknown>, string, RegExp]>([
    [{ dense_act_fn: "gated-gelu" }, "ERR_SWITCHYARD_UNSUPPORTED", /dense_act_fn "gated-gelu" is not supported; known are relu, gelu/],
    [{ router_dtype: "bfloat16" }, "ERR_SWITCHYARD_UNSUPPORTED", /router_dtype "bfloat16"/],
    [{ d_model: 0 }, "ERR_SWITCHYARD_FORMAT", /d_model/],
    [{ model_type: "t5" }, "ERR_SWITCHYARD_FORMAT", /model_type/],
    [{ relative_attention_max_distance: 8 }, "ERR_SWITCHYARD_CONFIG", /maxDistance more than half/],
    [{ decoder_start_token_id: 50 }, "ERR_SWITCHYARD_CONFIG", /startId must be a token below 50/],
  ])("%j is refused", (changes, code, message) => {
    expect(() => configOf(changes)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) as string }));
  });
});
