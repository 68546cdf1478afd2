import { SwitchyardError } from "../../errors.js";
import type { MoeConfig } from "../../moe/layer.js";
import { routerPresets } from "../../routing/presets.js";
import type { ModelConfig } from "../config.js";
import type { Family, FeedForwardNames, HfConfig } from "./family.js";

const mlp: FeedForwardNames = { block: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };

function required(hf: HfConfig, key: keyof HfConfig): number {
  const value = hf[key];
  if (typeof value === "number") return value;
  throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `config.json: a ${hf.model_type} model needs ${key}, got ${value}`);
}

const allLayers = (hf: HfConfig) => Array.from({ length: hf.num_hidden_layers }, (_, l) => l);

/** Qwen's placement of sparse layers: every decoder_sparse_step-th, those in mlp_only_layers excepted. */
function steppedLayers(hf: HfConfig): number[] {
  return allLayers(hf).filter((l) => !(hf.mlp_only_layers ?? []).includes(l) && (l + 1) % (hf.decoder_sparse_step ?? 1) === 0);
}

function mixture(hf: HfConfig, hidden: number, normalise: boolean): MoeConfig {
  const router = normalise ? routerPresets.mixtral : routerPresets.olmoe;
  const experts = hf.num_experts ?? required(hf, "num_local_experts");
  return { experts, active: required(hf, "num_experts_per_tok"), hidden, activation: "silu", gated: true, router };
}

/** Dense layers of a Qwen mixture: the complement of the sparse ones. */
function qwenFields(config: ModelConfig): Record<string, unknown> {
  const dense = Array.from({ length: config.layers }, (_, l) => l).filter((l) => !config.sparseLayers.includes(l));
  return {
    intermediate_size: config.hidden,
    moe_intermediate_size: config.moe?.hidden,
    num_experts: config.moe?.experts,
    num_experts_per_tok: config.moe?.active,
    norm_topk_prob: config.moe?.router.normalize !== undefined,
    decoder_sparse_step: 1,
    mlp_only_layers: dense,
  };
}

/** In order of preference: a model is saved as the first family that expresses it exactly. */
export const families: readonly Family[] = [
  {
    modelType: "llama",
    architecture: "LlamaForCausalLM",
    names: mlp,
    read: (hf) => ({ qkvBias: hf.attention_bias ?? false, outputBias: hf.attention_bias ?? false }),
    write: (config) => ({ intermediate_size: config.hidden, attention_bias: config.qkvBias, mlp_bias: false }),
  },
  {
    modelType: "qwen3",
    architecture: "Qwen3ForCausalLM",
    names: mlp,
    read: (hf) => ({ qkNorm: "head", qkvBias: hf.attention_bias ?? false, outputBias: hf.attention_bias ?? false }),
    write: (config) => ({ intermediate_size: config.hidden, attention_bias: config.qkvBias }),
  },
  {
    modelType: "mixtral",
    architecture: "MixtralForCausalLM",
    names: { block: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" },
    read: (hf) => ({ moe: mixture(hf, required(hf, "intermediate_size"), true), sparseLayers: allLayers(hf) }),
    write: ({ moe }) => ({ intermediate_size: moe?.hidden, num_local_experts: moe?.experts, num_experts_per_tok: moe?.active, sliding_window: null }),
  },
  {
    modelType: "olmoe",
    architecture: "OlmoeForCausalLM",
    names: mlp,
    read: (hf) => ({
      qkNorm: "row",
      qkvBias: hf.attention_bias ?? false,
      outputBias: hf.attention_bias ?? false,
      moe: mixture(hf, required(hf, "intermediate_size"), hf.norm_topk_prob ?? false),
      sparseLayers: allLayers(hf),
    }),
    write: ({ moe, qkvBias }) => ({
      intermediate_size: moe?.hidden,
      num_experts: moe?.experts,
      num_experts_per_tok: moe?.active,
      norm_topk_prob: moe?.router.normalize !== undefined,
      attention_bias: qkvBias,
    }),
  },
  {
    modelType: "qwen3_moe",
    architecture: "Qwen3MoeForCausalLM",
    names: mlp,
    read: (hf) => ({
      qkNorm: "head",
      qkvBias: hf.attention_bias ?? false,
      outputBias: hf.attention_bias ?? false,
      moe: mixture(hf, required(hf, "moe_intermediate_size"), hf.norm_topk_prob ?? false),
      sparseLayers: steppedLayers(hf),
    }),
    write: (config) => ({ ...qwenFields(config), attention_bias: config.qkvBias }),
  },
  {
    modelType: "qwen2_moe",
    architecture: "Qwen2MoeForCausalLM",
    names: mlp,
    read: (hf) => ({
      qkvBias: hf.qkv_bias ?? true,
      moe: {
        ...mixture(hf, required(hf, "moe_intermediate_size"), hf.norm_topk_prob ?? false),
        shared: { hidden: required(hf, "shared_expert_intermediate_size"), combine: "sigmoid" },
      },
      sparseLayers: steppedLayers(hf),
    }),
    write: (config) => ({ ...qwenFields(config), qkv_bias: config.qkvBias, shared_expert_intermediate_size: config.moe?.shared?.hidden }),
  },
];
