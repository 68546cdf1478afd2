import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { describeNative, nmse } from "../../test/engines.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { isQuantised } from "../tensor/dtype.js";
import type { StoredModel } from "./any-model.js";
import { calibrate } from "./calibrate.js";
import type { ModelConfig } from "./config.js";
import { EncoderDecoderModel } from "./encoder-decoder/model.js";
import { readModelFolder } from "./folder.js";
import { readHfConfig } from "./families/hf-config.js";
import { readModelGguf, writeModelGguf } from "./gguf-file.js";
import { LanguageModel } from "./language-model.js";
import { modelConfig } from "./presets.js";
import { byteVocabulary } from "./random-gguf.js";
import { forward, logits } from "./transformer.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-in-place-"));
afterAll(() => rmSync(dir, { recursive: true }));
const file = join(dir, "m.gguf");
const goldens = new URL("../../../shared/goldens/", import.meta.url).pathname;

/** Matrices that the model reads from the file in a quantised type. */
const quantised = ({ parameters }: Pick<LanguageModel, "parameters">): string[] =>
  parameters.list.map(({ name }) => name).filter((name) => parameters.experts(name).flat().some(({ dtype }) => isQuantised(dtype)));

/** Hidden states of a prompt, as they are without gradients or, `recording`, in training. */
function hiddenOf(model: LanguageModel, recording = false): Float32Array {
  using arena = new Arena(model.engine, 2 ** 22);
  const tape = new Tape(model.engine, arena, { recording });
  return Float32Array.from(model.engine.read(forward(tape, model, { ids: tape.constant([6], Int32Array.from([5, 6, 7, 8, 9, 10]), "i32"), batch: 1 }).hidden));
}

/** Parameters of the model that a file of it has in Q8_0, those that products take so, and those that are still taken so after a prompt. */
async function inPlace(model: LanguageModel): Promise<{ stored: string[]; loaded: string[]; used: string[] }> {
  await writeModelGguf(file, model.config, model.parameters, { type: "Q8_0", vocabulary: byteVocabulary(model.config.vocab) });
  const { sources } = readModelGguf(file);
  const stored = model.parameters.list.map(({ name }) => name).filter((name) => sources.get(name)?.types?.every((type) => type === "Q8_0"));
  using read = await LanguageModel.load(file);
  const loaded = quantised(read);
  using arena = new Arena(read.engine, 2 ** 22);
  const tape = new Tape(read.engine, arena);
  logits(tape, read, forward(tape, read, { ids: tape.constant([4], Int32Array.from([5, 6, 7, 8]), "i32"), batch: 1 }).hidden);
  return { stored, loaded, used: quantised(read) };
}

describeNative("no floats are made of quantised matrices", () => {
  it("of a model with a shared expert", async () => {
    const config = modelConfig({ vocab: 64, width: 64, layers: 2, heads: 2, context: 64, hidden: 64, moe: { router: "olmoe", experts: 4, active: 2, hidden: 32, shared: 1 } });
    using model = LanguageModel.create({ config, engine: loadEngine(), seed: 1 });
    const { loaded, used } = await inPlace(model);
    expect(loaded).toEqual(expect.arrayContaining(["embedding", "layers.1.attention.q", "layers.1.experts.up", "layers.1.shared.up", "layers.1.shared.down"]));
    expect(used).toEqual(loaded);
  });

  it("of latent attention, whose up projection the file has in two", async () => {
    const { config } = readHfConfig({
      model_type: "deepseek_v2", vocab_size: 64, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2, max_position_embeddings: 64, intermediate_size: 64,
      q_lora_rank: 32, kv_lora_rank: 32, qk_nope_head_dim: 32, qk_rope_head_dim: 16, v_head_dim: 64,
      n_routed_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 32, n_shared_experts: 1, first_k_dense_replace: 1, topk_method: "greedy", norm_topk_prob: false, scoring_func: "softmax",
    }, "test");
    using model = LanguageModel.create({ config, engine: loadEngine(), seed: 1 });
    const { stored, loaded, used } = await inPlace(model);
    expect(stored).toContain("layers.1.attention.kvUp");
    expect(loaded).toEqual(expect.arrayContaining(stored));
    expect(used).toEqual(loaded);
    using read = await LanguageModel.load(file);
    expect(read.parameters.apart("layers.1.attention.kvUp")?.map((stack) => stack.map(({ dtype, shape }) => [dtype, ...shape]))).toEqual([
      [["q8_0", 32, 32], ["q8_0", 32, 32]],
      [["q8_0", 64, 32], ["q8_0", 64, 32]],
    ]);
    await writeModelGguf(file, model.config, model.parameters, { type: "F32", vocabulary: byteVocabulary(64) });
    using exact = await LanguageModel.load(file);
    expect(nmse(hiddenOf(read), hiddenOf(exact))).toBeLessThan(1e-3);
    expect(nmse(hiddenOf(exact), hiddenOf(model))).toBeLessThan(1e-11);
    // What training computes, with keys and values of all heads, is the same function.
    expect(nmse(hiddenOf(model, true), hiddenOf(model))).toBeLessThan(1e-11);
  });

  // A short convolution, Mamba, the delta rule, and shared experts.
  describe.skipIf(!existsSync(goldens))("of published families (needs ../shared/goldens)", () => {
    it.each(["deepseek_v3", "lfm2_moe", "jamba", "qwen3_next", "qwen3_5_moe", "qwen2_moe", "glm4_moe", "gpt_oss"])("%s", async (family) => {
      using model = await LanguageModel.load(join(goldens, family));
      const { stored, loaded, used } = await inPlace(model);
      expect(stored.length).toBeGreaterThan(0);
      expect(loaded).toEqual(expect.arrayContaining(stored));
      expect(used).toEqual(loaded);
    });

    it("switch: of feed-forward layers and experts", async () => {
      using model = await EncoderDecoderModel.load(join(goldens, "switch"));
      await writeModelGguf(file, model.config, model.parameters, { type: "Q8_0" });
      using read = await EncoderDecoderModel.load(file);
      const feedForward = model.parameters.list.map(({ name }) => name).filter((name) => /(ffn|experts)\.(up|down)$/.test(name));
      expect([...read.generate([9, 4, 77, 130, 1], { maxTokens: 4 })]).toHaveLength(4);
      expect(feedForward.length).toBeGreaterThan(4);
      expect(quantised(read)).toEqual(feedForward);
    });
  });
});

// Of qwen3_5_moe in GGUF the value heads, which are columns of this matrix.
describeNative("columns in another order (needs ../shared/goldens)", () => {
  const out = "layers.0.attention.delta.out";
  const folder = join(goldens, "qwen3_5_moe");
  const ids = Int32Array.from([5, 6, 7, 8, 9, 10]);

  it.skipIf(!existsSync(goldens))("are read in the file, and are the parameter's where it is made to floats or its importance is measured", async () => {
    const engine = loadEngine();
    using model = await LanguageModel.load(folder, { engine });
    await writeModelGguf(file, model.config, model.parameters, { type: "F32" });
    using read = await LanguageModel.load(file, { engine });
    const hidden = (m: LanguageModel, batch: number, [first, end] = [0, ids.length]) => {
      using arena = new Arena(engine, 2 ** 22);
      const tape = new Tape(engine, arena);
      return engine.read(forward(tape, m, { ids: tape.constant([end - first], ids.slice(first, end), "i32"), batch }).hidden);
    };
    const close = (got: ArrayLike<number>, want: ArrayLike<number>) => expect(Math.max(...Array.from(want, (x, i) => Math.abs(x - (got[i] as number))))).toBeLessThan(1e-4);
    expect(read.parameters.columns(out)).toBeDefined();
    close(hidden(read, 1), hidden(model, 1));
    expect(hidden(read, 2)).toEqual(Float32Array.from([...hidden(read, 1, [0, 3]), ...hidden(read, 1, [3, 6])]));

    const importance = async ({ config, sources }: StoredModel<ModelConfig>) =>
      (await calibrate(engine, config, sources, [{ inputs: ids, batch: 1 }], { expertTokens: 0, usual: 1 })).importance.get(out)![0]!;
    close(await importance(readModelGguf(file)), await importance(await readModelFolder(folder)));

    expect(engine.read(read.parameters.get(out))).toEqual(engine.read(model.parameters.get(out)));
    expect(read.parameters.columns(out)).toBeUndefined();
    close(hidden(read, 1), hidden(model, 1));
  });
});
