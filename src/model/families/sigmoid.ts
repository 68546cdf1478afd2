import type { RouterConfig } from "../../routing/types.js";
import type { Family } from "./family.js";
import { refuse, required } from "./fields.js";
import { layouts } from "./layouts.js";
import { attentionBiases, layersFrom, mixture, mixtureWithShared, sigmoidRouter, slidingMixers, sparseFrom, sumToOne } from "./read.js";

/* Families whose router scores by a sigmoid and chooses with a bias, and whose attention is grouped-query attention. */

/** Scores that are normalised and scaled. */
const scaledSigmoid = (scale: number): Partial<RouterConfig> => ({ score: "sigmoid", selectionBias: true, normalize: { eps: 1e-20, p: 1 }, scale });

export const sigmoidFamilies: readonly Family[] = [
  {
    modelType: "glm4_moe",
    architecture: "Glm4MoeForCausalLM",
    names: layouts.deepseek,
    defaults: {
      rms_norm_eps: 1e-5, n_routed_experts: 128, n_shared_experts: 1, num_experts_per_tok: 8, moe_intermediate_size: 1408, first_k_dense_replace: 1,
      n_group: 1, topk_group: 1, norm_topk_prob: true, routed_scaling_factor: 1, use_qk_norm: false, num_key_value_heads: 8,
    },
    rope: () => ({ partial: "applied", fraction: 0.5 }),
    read: (hf) => ({
      qkNorm: hf.use_qk_norm === true ? "head" : "none",
      qkvBias: hf.attention_bias,
      moe: mixtureWithShared(hf, sigmoidRouter(hf), hf.n_shared_experts),
      sparseLayers: layersFrom(hf, hf.first_k_dense_replace),
    }),
  },
  {
    modelType: "dots1",
    architecture: "Dots1ForCausalLM",
    names: layouts.deepseek,
    defaults: {
      n_group: 1, topk_group: 1, norm_topk_prob: false, routed_scaling_factor: 1,
      first_k_dense_replace: 0, sliding_window: 4096, max_window_layers: 62, moe_intermediate_size: 1408, num_key_value_heads: 32,
    },
    read: (hf) => ({
      qkNorm: "head",
      ...attentionBiases(hf),
      mixers: slidingMixers(hf, (l) => hf.sliding_window != null && l >= (hf.max_window_layers ?? 0)),
      moe: mixtureWithShared(hf, sigmoidRouter(hf), hf.n_shared_experts),
      sparseLayers: layersFrom(hf, hf.first_k_dense_replace),
    }),
    write: ({ moe, sparseLayers, qkvBias, hidden }) => ({
      intermediate_size: hidden,
      moe_intermediate_size: moe?.hidden,
      n_routed_experts: moe?.experts,
      n_shared_experts: (moe?.shared?.hidden ?? 0) / (moe?.hidden ?? 1),
      num_experts_per_tok: moe?.active,
      n_group: moe?.router.groups?.count ?? 1,
      topk_group: moe?.router.groups?.keep ?? 1,
      norm_topk_prob: moe?.router.normalize !== undefined,
      routed_scaling_factor: moe?.router.scale,
      first_k_dense_replace: sparseLayers[0],
      attention_bias: qkvBias,
      sliding_window: null,
    }),
  },
  {
    modelType: "solar_open",
    architecture: "SolarOpenForCausalLM",
    names: layouts.deepseek,
    defaults: {
      rms_norm_eps: 1e-5, rope_theta: 1e6, head_dim: 128, n_routed_experts: 128, n_shared_experts: 1, num_experts_per_tok: 8, moe_intermediate_size: 1280,
      n_group: 1, topk_group: 1, norm_topk_prob: true, routed_scaling_factor: 1, num_key_value_heads: 8,
    },
    rope: () => ({ partial: "refused" }),
    read: (hf) => ({ qkvBias: hf.attention_bias, moe: mixtureWithShared(hf, sigmoidRouter(hf), hf.n_shared_experts), sparseLayers: layersFrom(hf) }),
  },
  {
    modelType: "exaone_moe",
    architecture: "ExaoneMoeForCausalLM",
    names: layouts.exaone,
    defaults: {
      rms_norm_eps: 1e-5, sliding_window: 4096, sliding_window_pattern: 4, first_k_dense_replace: 1, moe_intermediate_size: 1024, num_experts: 64, num_experts_per_tok: 8,
      num_shared_experts: 1, norm_topk_prob: true, routed_scaling_factor: 2.5, n_group: 1, topk_group: 1, num_key_value_heads: 32,
    },
    read(hf) {
      const { sliding_window: window, sliding_window_pattern: pattern } = hf;
      refuse(hf, hf.layer_types == null && (typeof pattern !== "number" || pattern === 0), `sliding_window_pattern ${JSON.stringify(pattern)} without layer_types`);
      return {
        qkNorm: "head",
        mixers: slidingMixers(hf, (l) => (l + 1) % (pattern as number) !== 0, (sliding) => (window == null || sliding ? 0 : undefined)),
        moe: mixtureWithShared(hf, sigmoidRouter(hf), hf.num_shared_experts),
        sparseLayers: sparseFrom(hf, hf.first_k_dense_replace ?? 0),
      };
    },
  },
  {
    modelType: "minimax_m2",
    architecture: "MiniMaxM2ForCausalLM",
    names: layouts.minimaxM2,
    defaults: { rope_theta: 5e6, head_dim: 128, num_key_value_heads: 8, num_local_experts: 256, num_experts_per_tok: 8 },
    rope: (hf) => ({ partial: "applied", ...(hf.rotary_dim == null ? {} : { fraction: hf.rotary_dim / (hf.head_dim as number) }) }),
    read: (hf) => ({
      qkNorm: "row",
      moe: mixture(hf, required(hf, "intermediate_size"), { score: "sigmoid", selectionBias: true, ...sumToOne(true) }),
      sparseLayers: layersFrom(hf),
    }),
  },
  {
    modelType: "hy_v3",
    architecture: "HYV3ForCausalLM",
    names: layouts.hunyuan3,
    defaults: {
      rms_norm_eps: 1e-5, rope_theta: 11_158_840, head_dim: 128, num_key_value_heads: 8, num_experts: 192, num_experts_per_tok: 8, num_shared_experts: 1,
      moe_intermediate_size: 1536, router_scaling_factor: 2.826,
    },
    read: (hf) => ({
      qkNorm: "head",
      ...attentionBiases(hf),
      ...(hf.mlp_bias ? { ffnBias: true } : {}),
      moe: mixtureWithShared(hf, scaledSigmoid(required(hf, "router_scaling_factor")), hf.num_shared_experts),
      sparseLayers: sparseFrom(hf, 1),
    }),
  },
  {
    modelType: "afmoe",
    architecture: "AfmoeForCausalLM",
    names: layouts.afmoe,
    defaults: {
      rms_norm_eps: 1e-5, head_dim: 128, num_dense_layers: 1, num_experts: 64, num_experts_per_tok: 6, num_shared_experts: 2, moe_intermediate_size: 1408, route_scale: 1,
      sliding_window: 1024,
    },
    read: (hf) => ({
      branches: "around",
      qkNorm: "head",
      ...attentionBiases(hf),
      outputGate: { bias: false },
      ...(hf.mup_enabled === true ? { embeddingScale: Math.sqrt(hf.hidden_size) } : {}),
      mixers: slidingMixers(hf, (l) => (l + 1) % hf.global_attn_every_n_layers !== 0, (sliding) => (sliding ? 0 : undefined)),
      moe: mixtureWithShared(hf, scaledSigmoid(required(hf, "route_scale")), hf.num_shared_experts),
      sparseLayers: layersFrom(hf, hf.num_dense_layers),
    }),
  },
];
