import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cli, cliJson } from "../../test/cli.js";
import type { Inspection } from "../inspect/inspect.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-inspect-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function configFile(config: object): string {
  const file = join(folder, "config.json");
  writeFileSync(file, JSON.stringify(config));
  return file;
}

/** What the published config.json say about shapes. */
const published = {
  mixtral8x7b: { model_type: "mixtral", vocab_size: 32_000, hidden_size: 4096, intermediate_size: 14_336, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8, num_local_experts: 8, num_experts_per_tok: 2, max_position_embeddings: 32_768, rope_theta: 1e6, rms_norm_eps: 1e-5, sliding_window: null },
  mixtral8x22b: { model_type: "mixtral", vocab_size: 32_768, hidden_size: 6144, intermediate_size: 16_384, num_hidden_layers: 56, num_attention_heads: 48, num_key_value_heads: 8, num_local_experts: 8, num_experts_per_tok: 2, max_position_embeddings: 65_536, rope_theta: 1e6, rms_norm_eps: 1e-5, sliding_window: null },
  qwen3_30b: { model_type: "qwen3_moe", vocab_size: 151_936, hidden_size: 2048, intermediate_size: 6144, moe_intermediate_size: 768, num_hidden_layers: 48, num_attention_heads: 32, num_key_value_heads: 4, head_dim: 128, num_experts: 128, num_experts_per_tok: 8, norm_topk_prob: true, max_position_embeddings: 40_960, rope_theta: 1e6 },
  qwen3_235b: { model_type: "qwen3_moe", vocab_size: 151_936, hidden_size: 4096, intermediate_size: 12_288, moe_intermediate_size: 1536, num_hidden_layers: 94, num_attention_heads: 64, num_key_value_heads: 4, head_dim: 128, num_experts: 128, num_experts_per_tok: 8, norm_topk_prob: true, max_position_embeddings: 40_960, rope_theta: 1e6 },
  olmoe: { model_type: "olmoe", vocab_size: 50_304, hidden_size: 2048, intermediate_size: 1024, num_hidden_layers: 16, num_attention_heads: 16, num_key_value_heads: 16, num_experts: 64, num_experts_per_tok: 8, norm_topk_prob: false, max_position_embeddings: 4096, rope_theta: 1e4, rms_norm_eps: 1e-5 },
  deepseekV3: {
    model_type: "deepseek_v3", vocab_size: 129_280, hidden_size: 7168, intermediate_size: 18_432, moe_intermediate_size: 2048, num_hidden_layers: 61, num_attention_heads: 128, num_key_value_heads: 128,
    n_routed_experts: 256, n_shared_experts: 1, num_experts_per_tok: 8, first_k_dense_replace: 3, moe_layer_freq: 1, n_group: 8, topk_group: 4, norm_topk_prob: true, routed_scaling_factor: 2.5, scoring_func: "sigmoid", topk_method: "noaux_tc",
    q_lora_rank: 1536, kv_lora_rank: 512, qk_rope_head_dim: 64, qk_nope_head_dim: 128, v_head_dim: 128, max_position_embeddings: 163_840, rope_theta: 10_000, num_nextn_predict_layers: 1, hidden_act: "silu", rms_norm_eps: 1e-6,
    rope_scaling: { type: "yarn", factor: 40, beta_fast: 32, beta_slow: 1, mscale: 1, mscale_all_dim: 1, original_max_position_embeddings: 4096 },
    quantization_config: { activation_scheme: "dynamic", fmt: "e4m3", quant_method: "fp8", weight_block_size: [128, 128] },
  },
  deepseekV2Lite: {
    model_type: "deepseek_v2", vocab_size: 102_400, hidden_size: 2048, intermediate_size: 10_944, moe_intermediate_size: 1408, num_hidden_layers: 27, num_attention_heads: 16, num_key_value_heads: 16,
    n_routed_experts: 64, n_shared_experts: 2, num_experts_per_tok: 6, first_k_dense_replace: 1, moe_layer_freq: 1, n_group: 1, topk_group: 1, norm_topk_prob: false, routed_scaling_factor: 1, scoring_func: "softmax", topk_method: "greedy",
    q_lora_rank: null, kv_lora_rank: 512, qk_rope_head_dim: 64, qk_nope_head_dim: 128, v_head_dim: 128, max_position_embeddings: 163_840, rope_theta: 10_000,
    rope_scaling: { type: "yarn", factor: 40, beta_fast: 32, beta_slow: 1, mscale: 1, mscale_all_dim: 1, original_max_position_embeddings: 4096 },
  },
  qwen3Next: {
    model_type: "qwen3_next", vocab_size: 151_936, hidden_size: 2048, intermediate_size: 5120, moe_intermediate_size: 512, shared_expert_intermediate_size: 512, num_hidden_layers: 48, num_attention_heads: 16, num_key_value_heads: 2,
    head_dim: 256, partial_rotary_factor: 0.25, full_attention_interval: 4, linear_conv_kernel_dim: 4, linear_key_head_dim: 128, linear_num_key_heads: 16, linear_num_value_heads: 32, linear_value_head_dim: 128,
    num_experts: 512, num_experts_per_tok: 10, norm_topk_prob: true, decoder_sparse_step: 1, mlp_only_layers: [], max_position_embeddings: 262_144, rope_theta: 1e7, rms_norm_eps: 1e-6, hidden_act: "silu",
  },
  gptOss20b: {
    model_type: "gpt_oss", vocab_size: 201_088, hidden_size: 2880, intermediate_size: 2880, num_hidden_layers: 24, num_attention_heads: 64, num_key_value_heads: 8, head_dim: 64, num_local_experts: 32, num_experts_per_tok: 4, sliding_window: 128,
    layer_types: Array.from({ length: 24 }, (_, l) => (l % 2 === 0 ? "sliding_attention" : "full_attention")), attention_bias: true, max_position_embeddings: 131_072, rope_theta: 150_000, hidden_act: "silu", rms_norm_eps: 1e-5, swiglu_limit: 7,
    rope_scaling: { rope_type: "yarn", factor: 32, beta_fast: 32, beta_slow: 1, truncate: false, original_max_position_embeddings: 4096 },
    quantization_config: { quant_method: "mxfp4", modules_to_not_convert: ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"] },
  },
} as const;

describe("inspect, from config.json alone", () => {
  // As PyTorch counts the parameters of the classes of transformers 5.23.0 on its meta device; active: all but the experts that a token does not use.
  it.each<[keyof typeof published, number, number]>([
    ["mixtral8x7b", 46_702_792_704, 12_879_925_248],
    ["mixtral8x22b", 140_630_071_296, 39_161_468_928],
    ["qwen3_30b", 30_532_122_624, 3_353_032_704],
    ["qwen3_235b", 235_093_634_560, 22_190_763_520],
    ["olmoe", 6_919_161_856, 1_282_017_280],
    ["deepseekV3", 671_026_404_352, 37_552_282_624],
    ["deepseekV2Lite", 15_706_484_224, 2_661_150_208],
    ["qwen3Next", 79_674_391_296, 3_874_929_408],
    ["gptOss20b", 20_914_757_184, 4_187_440_704],
  ])("%s: every parameter counted", async (name, total, active) => {
    expect(await cliJson<Inspection>("inspect", configFile(published[name]))).toMatchObject({ parameters: { total, active }, weights: null, checkpoints: [] });
  });

  it("router, mixer and shared expert of every layer", async () => {
    const config = configFile({ ...published.qwen3_30b, model_type: "qwen2_moe", num_hidden_layers: 4, decoder_sparse_step: 2, norm_topk_prob: false, shared_expert_intermediate_size: 512 });
    const { layers } = await cliJson<Inspection>("inspect", config);
    const dense = { mixer: "attention", kind: "dense", hidden: 6144 };
    const sparse = { mixer: "attention", kind: "sparse", experts: 128, active: 8, hidden: 768, shared: { hidden: 512, combine: "sigmoid" }, router: "top-k, 8 of 128 experts by softmax scores; weights: the scores of the chosen" };
    expect(layers).toEqual([{ layer: 0, ...dense }, { layer: 1, ...sparse }, { layer: 2, ...dense }, { layer: 3, ...sparse }]);
    const { stdout } = await cli(["inspect", configFile({ ...published.qwen3_30b, mlp_only_layers: [0, 1, 5] })]);
    expect(stdout.slice(stdout.indexOf("\nlayers ") + 1).split("\n").map((line) => line.split("  ")[0]!.trim())).toEqual(["layers", "0-1", "2-4", "5", "6-47", ""]);
  });

  it("a recurrent layer's state does not grow with the tokens", async () => {
    const { memory, layers } = await cliJson<Inspection>("inspect", configFile(published.qwen3Next));
    expect(layers.slice(0, 4).map(({ mixer }) => mixer)).toEqual(["gated DeltaNet", "gated DeltaNet", "gated DeltaNet", "attention"]);
    const state = 3 * (2 * 16 * 128 + 32 * 128) + 32 * 128 * 128 + 3 * 32;
    expect(memory).toMatchObject({ cachePerToken: 12 * 2 * 2 * 256 * 4, cache: 4096 * 12 * 2 * 2 * 256 * 4 + 36 * state * 4 });
  });

  it("an encoder-decoder: both stacks, the capacity of its experts", async () => {
    const config = { model_type: "switch_transformers", vocab_size: 32_128, d_model: 768, d_kv: 64, d_ff: 2048, num_layers: 12, num_decoder_layers: 12, num_heads: 12, num_experts: 8, num_sparse_encoder_layers: 6, num_sparse_decoder_layers: 6, expert_capacity: 64 };
    const { parameters, layers, memory } = await cliJson<Inspection>("inspect", configFile(config));
    // The shape of switch-base-8, as PyTorch counts the class of transformers.
    expect(parameters).toEqual({ total: 449_469_696, active: 449_469_696 - 12 * 7 * 2 * 768 * 2048 });
    expect(layers.map(({ layer, kind }) => `${layer} ${kind}`).slice(10, 14)).toEqual(["encoder.10 dense", "encoder.11 sparse", "decoder.0 dense", "decoder.1 sparse"]);
    expect(memory.cachePerToken).toBe(12 * 2 * 768 * 4);
    expect((await cli(["inspect", configFile(config)])).stdout).toMatch(/^router +top-k, 1 of 8 experts .*each expert takes at most 64 tokens of a sequence, the others pass by$/m);
  });

  it("memory: weights in f32, keys and values of every layer", async () => {
    const { memory } = await cliJson<Inspection>("inspect", configFile(published.mixtral8x7b));
    const cachePerToken = 32 * 2 * 8 * 128 * 4;
    expect(memory).toEqual({ weights: 4 * 46_702_792_704, cachePerToken, cacheTokens: 4096, cache: 4096 * cachePerToken, total: 4 * 46_702_792_704 + 4096 * cachePerToken });
    const { stdout } = await cli(["inspect", configFile(published.mixtral8x7b)]);
    expect(stdout).toMatch(/^parameters +46,702,792,704 in all, 12,879,925,248 active per token \(28%\)$/m);
    expect(stdout).toMatch(/^memory +about 175\.0 GiB: 174\.0 GiB of weights in f32, 1\.0 GiB of cache for 4,096 tokens, 256\.0 KiB per token$/m);
  });
});

const configs = new URL("../../../shared/data/moe-configs/", import.meta.url).pathname;

it.skipIf(!existsSync(configs))("published config.json files (needs ../shared/data)", async () => {
  expect(await cliJson<Inspection>("inspect", join(configs, "olmoe-1b-7b-0125-instruct"))).toMatchObject({ architecture: "OlmoeForCausalLM", parameters: { total: 6_919_161_856 } });
  // GLM-4.5-Air without its layer for multi-token prediction.
  expect(await cliJson<Inspection>("inspect", join(configs, "glm-moe/config.json"))).toMatchObject({ modelType: "glm4_moe", parameters: { total: 106_852_245_504, active: 13_424_123_904 } });
  expect(await cli(["inspect", join(configs, "gpt-oss-lite-16exp")])).toMatchObject({ code: 1, stderr: expect.stringMatching(/unknown model_type "gpt_oss_lite_minimal"; known are /) });
  expect(await cli(["inspect", join(configs, "deepseek-v3/config_671B.json")])).toMatchObject({ code: 1, stderr: expect.stringMatching(/config_671B\.json: no model_type; known are /) });
});
