import type { MixerConfig, ModelConfig } from "../config.js";
import { lightningRates } from "../lightning-attention.js";
import { type Family, textPart } from "./family.js";
import { type HfConfig, refuse, required } from "./fields.js";
import { mixerLayouts } from "./mixer-layouts.js";
import { attentionBiases, everyLayer, layersFrom, layersWhere, layerTypes, mixture, sharedExperts, steppedLayers, sumToOne, windowOf } from "./read.js";

/* Families of which some layers mix the tokens otherwise than by attention. */

const attention: MixerConfig = { kind: "attention", rope: 0 };

/** Qwen's: DeltaNet layers, every few a gated attention, all mixtures with a gated shared expert, norms around zero. */
function qwenDelta(hf: HfConfig, normalise: boolean | null | undefined): Partial<ModelConfig> {
  const { linear_num_value_heads: heads, linear_num_key_heads: keyHeads } = hf;
  refuse(hf, heads % keyHeads !== 0, `linear_num_value_heads ${heads} beside linear_num_key_heads ${keyHeads}`);
  const delta: MixerConfig = { kind: "deltaNet", heads, keyHeads, keyDim: hf.linear_key_head_dim, valueDim: hf.linear_value_head_dim, kernel: hf.linear_conv_kernel_dim };
  const types = layerTypes(hf, ["linear_attention", "full_attention"], (l) => ((l + 1) % hf.full_attention_interval === 0 ? "full_attention" : "linear_attention"));
  return {
    normOffset: 1,
    qkNorm: "head",
    ...attentionBiases(hf),
    outputGate: { bias: hf.attention_bias },
    mixers: types.map((type) => (type === "linear_attention" ? delta : attention)),
    moe: mixture(hf, required(hf, "moe_intermediate_size"), sumToOne(normalise), sharedExperts(1, required(hf, "shared_expert_intermediate_size"), "sigmoid")),
  };
}

const qwenDefaults = { head_dim: 256, num_key_value_heads: 2, moe_intermediate_size: 512, shared_expert_intermediate_size: 512 };
const qwenRope = () => ({ partial: "applied", fraction: 0.25 }) as const;

const qwen3Moe5: Omit<Family, "modelType" | "architecture" | "names"> = {
  defaults: { ...qwenDefaults, num_experts: 256, num_experts_per_tok: 8 },
  rope: qwenRope,
  read: (hf) => ({ ...qwenDelta(hf, true), sparseLayers: layersFrom(hf) }),
};

export const mixerFamilies: readonly Family[] = [
  {
    modelType: "lfm2_moe",
    architecture: "Lfm2MoeForCausalLM",
    names: mixerLayouts.lfm2,
    defaults: {
      rope_theta: 1e6, tie_word_embeddings: true, num_key_value_heads: 8, num_dense_layers: 2, moe_intermediate_size: 1792, num_experts: 32, num_experts_per_tok: 4,
      norm_topk_prob: true, routed_scaling_factor: 1,
    },
    read(hf) {
      refuse(hf, hf.layer_types == null, "a config.json without layer_types");
      const conv: MixerConfig = { kind: "shortConv", kernel: hf.conv_L_cache, bias: hf.conv_bias };
      return {
        normEps: hf.norm_eps,
        tiedEmbeddings: hf.tie_embedding ?? hf.tie_word_embeddings,
        activation: "silu",
        qkNorm: "head",
        mixers: layerTypes(hf, ["conv", "full_attention"], () => "conv").map((type) => (type === "conv" ? conv : attention)),
        moe: mixture(hf, required(hf, "moe_intermediate_size"), {
          score: "sigmoid",
          scale: hf.routed_scaling_factor ?? 1,
          ...(hf.use_expert_bias ? { selectionBias: true } : {}),
          ...(hf.norm_topk_prob === true ? { normalize: { eps: 1e-6, p: 1 } } : {}),
        }),
        sparseLayers: layersFrom(hf, hf.num_dense_layers),
      };
    },
  },
  {
    modelType: "qwen3_next",
    architecture: "Qwen3NextForCausalLM",
    names: mixerLayouts.qwen3Next,
    defaults: { ...qwenDefaults, intermediate_size: 5632, num_experts: 512, num_experts_per_tok: 10, norm_topk_prob: true },
    rope: qwenRope,
    read: (hf) => ({ ...qwenDelta(hf, hf.norm_topk_prob), sparseLayers: steppedLayers(hf) }),
  },
  { ...qwen3Moe5, modelType: "qwen3_5_moe_text", architecture: "Qwen3_5MoeForCausalLM", names: mixerLayouts.qwen3Moe5, otherNames: [mixerLayouts.qwen3Moe5Stacked] },
  {
    ...qwen3Moe5,
    modelType: "qwen3_5_moe",
    architecture: "Qwen3_5MoeForConditionalGeneration",
    names: mixerLayouts.qwen3Moe5Sees,
    otherNames: [mixerLayouts.qwen3Moe5SeesStacked],
    ...textPart("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"),
  },
  {
    modelType: "minimax",
    architecture: "MiniMaxForCausalLM",
    names: mixerLayouts.minimax,
    refine(config, read) {
      const mixers = config.mixers.map((mixer, l): MixerConfig => {
        const slopes = mixer.kind === "lightning" ? read(`model.layers.${l}.self_attn.slope_rate`) : undefined;
        // Rounding to bfloat16 changes a slope by less than 1 %.
        const published = lightningRates(config.heads, l, config.layers).every((rate, h) => slopes === undefined || Math.abs((slopes[h] as number) - rate) <= 0.01 * rate);
        return published ? mixer : { kind: "lightning", tables: (config.published?.["block_size"] ?? 256) as number };
      });
      return { ...config, mixers };
    },
    defaults: { rms_norm_eps: 1e-5, rope_theta: 1e6, num_key_value_heads: 8, num_local_experts: 8, num_experts_per_tok: 2 },
    read(hf) {
      const types = layerTypes(hf, ["full_attention", "linear_attention"], (l) => (l % 2 === 0 ? "full_attention" : "linear_attention"));
      const isFull = (l: number) => types[l] === "full_attention";
      return {
        branches: "normed",
        blend: {
          attention: everyLayer(hf, (l) =>
            isFull(l) ? { kept: hf.full_attn_alpha_factor, added: hf.full_attn_beta_factor } : { kept: hf.linear_attn_alpha_factor, added: hf.linear_attn_beta_factor },
          ),
          ffn: { kept: hf.mlp_alpha_factor, added: hf.mlp_beta_factor },
        },
        mixers: everyLayer(hf, (l): MixerConfig => (isFull(l) ? { ...attention, ...windowOf(hf, hf.sliding_window) } : { kind: "lightning" })),
        moe: mixture(hf, required(hf, "intermediate_size"), sumToOne(true)),
        sparseLayers: layersFrom(hf),
      };
    },
  },
  {
    modelType: "jamba",
    architecture: "JambaForCausalLM",
    names: mixerLayouts.jamba,
    defaults: { num_key_value_heads: 8, num_experts: 16, num_experts_per_tok: 2 },
    rope: () => undefined,
    read(hf) {
      const { attn_layer_period: every, attn_layer_offset: from, expert_layer_period: sparseEvery, expert_layer_offset: sparseFrom } = hf;
      refuse(hf, from >= every, `attn_layer_offset ${from} beside attn_layer_period ${every}`);
      refuse(hf, sparseFrom >= sparseEvery, `expert_layer_offset ${sparseFrom} beside expert_layer_period ${sparseEvery}`);
      const mamba: MixerConfig = {
        kind: "mamba",
        channels: hf.mamba_expand * hf.hidden_size,
        states: hf.mamba_d_state,
        rank: hf.mamba_dt_rank === "auto" ? Math.ceil(hf.hidden_size / 16) : hf.mamba_dt_rank,
        kernel: hf.mamba_d_conv,
        kernelBias: hf.mamba_conv_bias,
        bias: hf.mamba_proj_bias,
      };
      return {
        ropes: [],
        mixers: everyLayer(hf, (l) => (l % every === from ? { kind: "attention" } : mamba)),
        moe: mixture(hf, required(hf, "intermediate_size"), {}),
        sparseLayers: layersWhere(hf, (l) => hf.num_experts !== 1 && l % sparseEvery === sparseFrom),
      };
    },
  },
];
