import { describe, expect, it } from "vitest";
import type { Json } from "../formats/json.js";
import { routerConfig } from "../routing/presets.js";
import { modelCard } from "./card.js";
import { checkModelConfig, type ModelConfig } from "./config.js";
import { readHfConfig, writeHfConfig } from "./families/hf-config.js";
import { publishedPieces } from "./families/names.js";
import { countParameters, parameterSpecs } from "./parameter-specs.js";
import { modelConfig, type ModelOptions } from "./presets.js";

const json = (value: unknown) => JSON.parse(JSON.stringify(value)) as Json;

const mixtral = {
  model_type: "mixtral", vocab_size: 32000, hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8,
  num_local_experts: 8, num_experts_per_tok: 2, max_position_embeddings: 32768, rms_norm_eps: 1e-5, hidden_act: "silu", rope_theta: 1e6, sliding_window: null,
};
const qwen3 = {
  model_type: "qwen3_moe", vocab_size: 151936, hidden_size: 4096, intermediate_size: 12288, moe_intermediate_size: 1536, num_hidden_layers: 94, num_attention_heads: 64,
  num_key_value_heads: 4, head_dim: 128, num_experts: 128, num_experts_per_tok: 8, norm_topk_prob: true, decoder_sparse_step: 1, mlp_only_layers: [],
  max_position_embeddings: 40960, rms_norm_eps: 1e-6, hidden_act: "silu", rope_parameters: { rope_theta: 1e6, rope_type: "default" },
};

/** deepseek-ai/DeepSeek-V3 */
const deepseek = {
  model_type: "deepseek_v3", vocab_size: 129280, hidden_size: 7168, intermediate_size: 18432, moe_intermediate_size: 2048, num_hidden_layers: 61, num_nextn_predict_layers: 1,
  num_attention_heads: 128, num_key_value_heads: 128, n_routed_experts: 256, n_shared_experts: 1, num_experts_per_tok: 8, first_k_dense_replace: 3, moe_layer_freq: 1, n_group: 8,
  topk_group: 4, topk_method: "noaux_tc", scoring_func: "sigmoid", norm_topk_prob: true, routed_scaling_factor: 2.5, q_lora_rank: 1536, kv_lora_rank: 512, qk_nope_head_dim: 128,
  qk_rope_head_dim: 64, v_head_dim: 128, attention_bias: false, hidden_act: "silu", max_position_embeddings: 163840, rms_norm_eps: 1e-6, rope_theta: 10000, tie_word_embeddings: false,
  rope_scaling: { type: "yarn", factor: 40, beta_fast: 32, beta_slow: 1, mscale: 1, mscale_all_dim: 1, original_max_position_embeddings: 4096 },
};

/** moonshotai/Kimi-K2-Instruct */
const kimi = {
  ...deepseek, model_type: "kimi_k2", vocab_size: 163840, num_nextn_predict_layers: 0, num_attention_heads: 64, num_key_value_heads: 64, n_routed_experts: 384, first_k_dense_replace: 1,
  n_group: 1, topk_group: 1, routed_scaling_factor: 2.827, max_position_embeddings: 131072, rope_theta: 50000,
  rope_scaling: { type: "yarn", factor: 32, beta_fast: 1, beta_slow: 1, mscale: 1, mscale_all_dim: 1, original_max_position_embeddings: 4096 },
};

describe("a published config.json", () => {
  it.each([
    ["DeepSeek-V3", deepseek, 671_026_404_352, 37_552_282_624],
    // The total: transformers' DeepseekV3ForCausalLM of this shape.
    ["Kimi K2", kimi, 1_026_408_209_408, 32_861_477_888],
    ["Mixtral-8x7B", mixtral, 46_702_792_704, 12_879_925_248],
    ["Qwen3-235B-A22B", qwen3, 235_093_634_560, 22_190_763_520],
  ])("%s has the published number of parameters, to the last one", (_, hf, total, active) => {
    expect(countParameters(readHfConfig(json(hf), "config.json").config)).toEqual({ total, active });
  });

  it("is read with rope_theta in the older and in the newer place", () => {
    const theta = (extra: object) => readHfConfig(json({ ...mixtral, rope_theta: undefined, ...extra }), "c").config.ropes[0]!.theta;
    expect([theta({ rope_theta: 5 }), theta({ rope_parameters: { rope_theta: 6, rope_type: "default" } }), theta({})]).toEqual([5, 6, 1e6]);
  });

  it.each<[string, object, RegExp]>([
    ["another way to choose groups", { topk_method: "noaux_tc", model_type: "deepseek_v2" }, /topk_method "noaux_tc"/],
    ["a mixture in every other layer", { moe_layer_freq: 2 }, /moe_layer_freq 2/],
    ["fewer heads of keys in latent attention", { num_key_value_heads: 8 }, /num_key_value_heads 8/],
    ["a partial rotation where transformers has none", { partial_rotary_factor: 0.5 }, /partial_rotary_factor 0\.5/],
    ["another slope of gpt-oss's activation", { model_type: "gpt_oss", num_local_experts: 8, num_experts_per_tok: 2, swiglu_alpha: 2 }, /swiglu_alpha 2/],
    ["experts that differ from layer to layer", { model_type: "hunyuan_v1_moe", num_experts_per_tok: undefined, num_experts: 8, moe_topk: [1, 2] }, /moe_topk: different numbers/],
    ["sparsemixer over other than two", { model_type: "phimoe", num_local_experts: 8, num_experts_per_tok: 3 }, /num_experts_per_tok 3, where sparsemixer/],
    ["an unknown kind of layer", { model_type: "afmoe", num_experts: 8, layer_types: Array.from({ length: 61 }, () => "mamba"), first_k_dense_replace: undefined }, /layer_types: "mamba" of layer 0/],
    ["an unknown choice of experts", { model_type: "cohere2_moe", num_experts: 8, expert_selection_fn: "hard" }, /expert_selection_fn "hard"/],
  ])("that computes what we do not is refused: %s", (_, change, message) => {
    const plain = { ...deepseek, rope_scaling: "partial_rotary_factor" in change ? deepseek.rope_scaling : null };
    const run = () => readHfConfig(json({ ...plain, ...change }), "config.json");
    expect(run).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(message) }));
  });

  it.each<[string, object, string, RegExp]>([
    ["an unknown architecture", { model_type: "bert" }, "ERR_SWITCHYARD_UNSUPPORTED", /"bert"; known are llama, qwen3, mixtral/],
    ["an encoder-decoder", { model_type: "switch_transformers" }, "ERR_SWITCHYARD_UNSUPPORTED", /switch_transformers is an encoder-decoder, not a language model/],
    ["a missing field", { hidden_size: undefined }, "ERR_SWITCHYARD_FORMAT", /hidden_size/],
    ["a string for a number", { num_hidden_layers: "32" }, "ERR_SWITCHYARD_FORMAT", /num_hidden_layers/],
    ["more layers than a model has", { num_hidden_layers: 1001 }, "ERR_SWITCHYARD_FORMAT", /num_hidden_layers/],
    ["no experts", { num_local_experts: 0 }, "ERR_SWITCHYARD_FORMAT", /num_local_experts/],
    ["more experts per token than experts", { num_experts_per_tok: 9 }, "ERR_SWITCHYARD_CONFIG", /top-k.*8 experts, got 9/],
    ["heads that do not divide", { num_key_value_heads: 5 }, "ERR_SWITCHYARD_CONFIG", /heads \(32\).*heads of keys and values \(5\)/],
    ["an unknown rotary scaling", { rope_scaling: { type: "mrope", factor: 4 } }, "ERR_SWITCHYARD_UNSUPPORTED", /type "mrope"/],
    ["a rotary scaling without its factor", { rope_scaling: { type: "linear" } }, "ERR_SWITCHYARD_FORMAT", /"linear" needs factor/],
    ["a window of nothing", { sliding_window: 0 }, "ERR_SWITCHYARD_UNSUPPORTED", /sliding_window of 0/],
    ["another activation", { hidden_act: "mish" }, "ERR_SWITCHYARD_UNSUPPORTED", /hidden_act "mish"/],
  ])("with %s is refused", (_, change, code, message) => {
    expect(() => readHfConfig(json({ ...mixtral, ...change }), "config.json")).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });
});

const saved: [string, ModelOptions, string][] = [
  ["a dense model", { vocab: 100, moe: false }, "llama"],
  ["renormalised top-k", { vocab: 100 }, "mixtral"],
  ["raw top-k", { vocab: 100, moe: { router: "olmoe" } }, "olmoe"],
  ["some dense layers", { vocab: 100, moe: { layers: { firstDense: 1 } } }, "qwen3_moe"],
  ["a shared expert", { vocab: 100, moe: { shared: 1 } }, "qwen2_moe"],
  ["grouped-query attention and tied embeddings", { vocab: 100, kvHeads: 2, tiedEmbeddings: true }, "mixtral"],
  ["a loss-free bias", { vocab: 100, moe: { balance: { method: "loss-free", rate: 1e-3, update: "sign" } } }, "switchyard"],
  ["a shared expert that is only added", { vocab: 100, moe: { shared: 1, sharedCombine: "add" } }, "switchyard"],
  ["sigmoids, groups, a bias and a shared expert", { vocab: 100, moe: { router: "deepseek-v3", experts: 16, shared: 1, layers: { firstDense: 1 } } }, "dots1"],
  ["expert choice", { vocab: 100, moe: { router: "expert-choice" } }, "switchyard"],
];

describe("a model of ours", () => {
  it.each(saved)("with %s is saved as the family that expresses it, and read back as it was", (_, options, modelType) => {
    const config = modelConfig(options);
    const { json: written, family } = writeHfConfig(config);
    expect(family.modelType).toBe(modelType);
    const back = readHfConfig(json(written), "config.json");
    expect(back.family.modelType).toBe(modelType);
    expect(countParameters(back.config)).toEqual(countParameters(config));
    expect(writeHfConfig(back.config).json).toEqual(written);
    expect(modelCard(config, family)).toContain(`library_name: ${modelType === "switchyard" ? "switchyard" : "transformers"}\n`);
  });

  it("has no groups of one expert, which transformers and llama.cpp cannot run", () => {
    const groups = (experts: number) => writeHfConfig(modelConfig({ vocab: 100, moe: { router: "deepseek-v3", experts, active: 4 } })).json["n_group"];
    expect([groups(8), groups(16)]).toEqual([1, 8]);
    expect(() => modelConfig({ vocab: 100, moe: { router: "deepseek-v3", experts: 8, active: 5 } })).toThrow(/4 groups of 1 hold fewer than k = 5/);
  });

  it("with another activation is saved under the name that others have for it", () => {
    const config = modelConfig({ vocab: 100 });
    const { json: written, family } = writeHfConfig({ ...config, activation: "gelu-tanh", moe: { ...config.moe!, activation: "gelu-tanh" } });
    expect([family.modelType, written["hidden_act"]]).toEqual(["mixtral", "gelu_new"]);
  });

  it.each(saved)("with %s has a published name for every element of every parameter, once", (_, options) => {
    const config = modelConfig(options);
    const { family } = writeHfConfig(config);
    const names = new Set<string>();
    for (const spec of parameterSpecs(config)) {
      const starts: number[] = [];
      for (const { name, shape, rows, cols, at } of publishedPieces(spec, config, family.names)) {
        expect(rows * cols).toBe(shape.reduce((a, b) => a * b, 1));
        starts.push(...Array.from({ length: rows }, (___, r) => at(r) / cols));
        expect(names.has(name)).toBe(false);
        names.add(name);
      }
      expect(starts.sort((a, b) => a - b)).toEqual(starts.map((___, i) => i));
      expect(starts.length).toBe(spec.shape.length === 1 ? spec.shape[0] : spec.shape.slice(0, -1).reduce((a, b) => a * b, 1));
    }
  });

  it("refuses an own config whose parts do not fit", () => {
    const { json: written } = writeHfConfig(modelConfig({ vocab: 100, moe: { router: "expert-choice" } }));
    const own = written["switchyard"] as unknown as ModelConfig;
    const read = (change: object) => () => readHfConfig(json({ ...written, switchyard: { ...own, ...change } }), "config.json");
    expect(read({ heads: 3 })).toThrow(/heads/);
    expect(read({ sparseLayers: undefined })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT" }));
    expect(read({ moe: { ...own.moe, router: { ...own.moe?.router, selection: "magic" } } })).toThrow(/selection/);
    expect(() => readHfConfig({ model_type: "switchyard" }, "config.json")).toThrow(/switchyard/);
  });
});

it("parameters start at a deviation of sqrt(2 / 5D), those back into the residual stream at that divided by sqrt(2 L), norms at 1", () => {
  const inits = new Map(parameterSpecs(modelConfig({ vocab: 100, width: 40, layers: 8, heads: 4, moe: { experts: 2, active: 1, shared: 1 } })).map(({ name, init }) => [name, init]));
  for (const name of ["embedding", "head", "layers.0.attention.q", "layers.7.experts.up", "layers.0.router.weight", "layers.3.shared.gate"]) expect(inits.get(name), name).toEqual({ std: expect.closeTo(0.1, 12) });
  for (const name of ["attention.out", "experts.down", "shared.down"]) expect(inits.get(`layers.0.${name}`), name).toEqual({ std: expect.closeTo(0.1 / 4, 12) });
  expect([inits.get("norm"), inits.get("layers.0.attention.norm"), inits.get("layers.0.attention.qBias")]).toEqual([{ constant: 1 }, { constant: 1 }, { constant: 0 }]);
});

describe("checkModelConfig", () => {
  const config = modelConfig({ vocab: 100 });
  it.each<[string, Partial<ModelConfig>, RegExp]>([
    ["vocab 0", { vocab: 0 }, /vocab must be a positive integer/],
    ["a rotation longer than a head", { headDim: 14 }, /rotary must be an even number up to headDim \(14\)/],
    ["sparse latent attention without a queryRank", { latent: { rank: 16, unrotated: 8, value: 16, normEps: 1e-6 }, mixers: config.mixers.map(() => ({ kind: "latent", rope: 0, index: { heads: 2, headDim: 16, topK: 4 } })) }, /needs latent.queryRank/],
    ["sparse layers out of order", { sparseLayers: [1, 0] }, /sparseLayers must be rising/],
    ["a sparse layer twice", { sparseLayers: [1, 1] }, /sparseLayers must be rising/],
    ["a mixture without layers", { sparseLayers: [] }, /together/],
    ["a shared expert that is combined in no known way", { moe: { ...config.moe!, shared: { hidden: 8, combine: "sum" as "add" } } }, /combine must be one of add, average, sigmoid, softmax, got "sum"/],
    ["groups that do not fit", { moe: { ...config.moe!, router: routerConfig("deepseek-v3", { groups: { count: 3, keep: 1, score: "max" } }) } }, /groups/],
  ])("refuses %s", (_, change, message) => {
    expect(() => checkModelConfig({ ...config, ...change })).toThrow(message);
  });
});
