import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ReferenceEngine } from "../../engine/reference.js";
import { GgufMetadata } from "../../formats/gguf/metadata.js";
import { writeModelFolder } from "../folder.js";
import { readModelGguf, writeModelGguf } from "../gguf-file.js";
import { LanguageModel } from "../language-model.js";
import { Parameters } from "../parameters.js";
import { modelConfig, type MoeOptions } from "../presets.js";
import { writeGgufConfig } from "./gguf.js";
import { readHfConfig } from "./hf-config.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-gguf-choice-"));
afterAll(() => rmSync(dir, { recursive: true }));
const engine = new ReferenceEngine({ float: "f32" });

const options = { vocab: 100, width: 32, layers: 3, heads: 4 };
const written = (moe: MoeOptions, more: { kvHeads?: number } = {}) => {
  const { architecture, metadata } = writeGgufConfig(modelConfig({ ...options, ...more, moe }));
  return { arch: architecture.arch, keys: new GgufMetadata(metadata, "test") };
};

describe("the architecture of GGUF is one of which llama.cpp loads the model", () => {
  it.each<[string, MoeOptions, { kvHeads?: number }, string]>([
    ["a shared expert everywhere", { shared: 1 }, {}, "qwen2moe"],
    ["sigmoids and a shared expert", { router: "deepseek-v3", shared: 1, layers: { firstDense: 1 } }, {}, "dots1"],
    ["sigmoids alone, for dots1 has shared experts", { router: "deepseek-v3" }, {}, "glm4moe"],
    ["fewer heads of keys, for dots1 has as many as of queries", { router: "deepseek-v3", shared: 1 }, { kvHeads: 2 }, "glm4moe"],
  ])("%s", (_, moe, more, arch) => {
    expect(written(moe, more).arch).toBe(arch);
  });

  it.each<[string, MoeOptions]>([
    ["qwen3moe", { layers: { firstDense: 1 } }],
    ["qwen2moe", { shared: 1, layers: "every-other" }],
  ])("%s has no dense layers", (_, moe) => {
    expect(() => written(moe)).toThrow(/no architecture of GGUF expresses this model/);
  });

  it("that there are no shared experts is said to glm4moe", () => {
    expect(written({ router: "deepseek-v3" }).keys.integer("glm4moe.expert_shared_count")).toBe(0);
    expect(written({ router: "deepseek-v3", shared: 2 }, { kvHeads: 2 }).keys.integer("glm4moe.expert_shared_count")).toBe(2);
  });
});

it("a file's config.json has what transformers needs: its class, each family's names of the numbers of experts, floats as floats", async () => {
  using model = LanguageModel.create({ config: modelConfig({ ...options, moe: { router: { score: "sigmoid", selectionBias: true, normalize: { eps: 1e-20, p: 1 }, scale: 2 }, shared: 1 } }), engine });
  const [file, folder, direct] = [join(dir, "m.gguf"), join(dir, "m"), join(dir, "direct")];
  await writeModelGguf(file, model.config, model.parameters, { type: "F32" });
  const { config, sources } = readModelGguf(file);
  await writeModelFolder(folder, config, new Parameters(engine, config, sources), undefined);
  await model.save(direct);
  const [back, saved] = [folder, direct].map((name) => readFileSync(join(name, "config.json"), "utf8")) as [string, string];
  const names = { n_routed_experts: 8, num_local_experts: 8, moe_num_experts: 8, num_experts_per_tok: 2, moe_k: 2, moe_topk: 2 };
  expect(JSON.parse(back)).toMatchObject({ architectures: ["Dots1ForCausalLM"], model_type: "dots1", ...names });
  for (const text of [back, saved]) expect(text).toContain('"routed_scaling_factor": 2.0,');
});

it("Mistral 4's heads are as wide as both of their parts: transformers rotates a share of them", async () => {
  const { config } = readHfConfig({
    model_type: "mistral4", vocab_size: 40, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 4, num_key_value_heads: 4, intermediate_size: 32, max_position_embeddings: 1024,
    n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 16, q_lora_rank: 12, kv_lora_rank: 20, qk_rope_head_dim: 6, qk_nope_head_dim: 10, v_head_dim: 12,
    rope_parameters: { rope_type: "yarn", rope_theta: 1e4, factor: 16, original_max_position_embeddings: 64, beta_fast: 32, beta_slow: 1, mscale: 1, mscale_all_dim: 1, llama_4_scaling_beta: 0.1 },
  }, "test");
  using model = LanguageModel.create({ config, engine });
  const file = join(dir, "mistral4.gguf");
  await writeModelGguf(file, model.config, model.parameters, { type: "F32" });
  expect(readModelGguf(file).config.published).toMatchObject({ model_type: "mistral4", head_dim: 16, partial_rotary_factor: 0.375 });
});
