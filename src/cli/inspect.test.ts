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
} as const;

describe("inspect, from config.json alone", () => {
  // As PyTorch counts the parameters of the classes of transformers 5.23.0 on its meta device; active: all but the experts that a token does not use.
  it.each<[keyof typeof published, number, number]>([
    ["mixtral8x7b", 46_702_792_704, 12_879_925_248],
    ["mixtral8x22b", 140_630_071_296, 39_161_468_928],
    ["qwen3_30b", 30_532_122_624, 3_353_032_704],
    ["qwen3_235b", 235_093_634_560, 22_190_763_520],
    ["olmoe", 6_919_161_856, 1_282_017_280],
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
});
