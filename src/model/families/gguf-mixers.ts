import type { JsonObject } from "../../formats/json.js";
import type { MixerConfig, ModelConfig } from "../config.js";
import type { GgufArchitecture, GgufFields, GgufKeys } from "./gguf-architecture.js";
import { namedGguf } from "./gguf-names.js";
import { rowsOf } from "./layouts.js";
import { byKeyHead, deltaSizes, gatedQueries, mixer, stepsByKeyHead } from "./mixer-layouts.js";
import type { Elements, StoredAs, TensorNames } from "./names.js";

/* Architectures of GGUF with other mixers than attention. */

/** Heads of keys in each layer; those without are of the other mixer. */
const keysOfLayers = ({ mixers, kvHeads }: ModelConfig): GgufKeys => ({ "attention.head_count_kv": mixers.map(({ kind }) => (kind === "attention" ? kvHeads : 0)) });
const keyHeadsOf = (file: GgufFields): number[] => file.list("attention.head_count_kv") ?? [];
const layersOf = (file: GgufFields): number[] => Array.from({ length: file.common["num_hidden_layers"] as number }, (_, l) => l);

function mixerOf<K extends MixerConfig["kind"]>({ mixers }: ModelConfig, kind: K): Extract<MixerConfig, { kind: K }> | undefined {
  return mixers.find((m): m is Extract<MixerConfig, { kind: K }> => m.kind === kind);
}

/** Rates of forgetting: their logarithm here, their negative there. */
const rates: Elements = { fromOurs: (x) => -Math.exp(x), toOurs: (x) => Math.log(-x) };
/** Weights of norms: around zero here, around one there. */
const aroundOne: Elements = { fromOurs: (x) => 1 + x, toOurs: (x) => x - 1 };
const around = (name: string): StoredAs[] => [{ name, elements: aroundOne }];

const qwen: TensorNames["tensors"] = {
  norm: around("output_norm.weight"),
  "ffn.norm": around("post_attention_norm.weight"),
  ...mixer({ norm: around("attn_norm.weight"), qNorm: around("attn_q_norm.weight"), kNorm: around("attn_k_norm.weight") }),
  ...gatedQueries("attn_q"),
  ...mixer({
    "delta.qkv": "attn_qkv.weight", "delta.gate": "attn_gate.weight", "delta.kernel": "ssm_conv1d.weight", "delta.stepBias": "ssm_dt.bias",
    "delta.logRate": [{ name: "ssm_a", elements: rates }], "delta.norm": "ssm_norm.weight", "delta.out": "ssm_out.weight",
  }),
};

/** Value heads in the order of what they do for their key head: the first of each, the second of each. Number in the file to ours. */
function tiled(config: ModelConfig): (head: number) => number {
  const { keyHeads, served } = deltaSizes(config);
  return (head) => (head % keyHeads) * served + Math.floor(head / keyHeads);
}

/** Rows of value heads in that order, of `size` each, behind `before` others. */
const tiledRows = (name: string, size: (valueDim: number) => number, before: (keyWidth: number) => number = () => 0): StoredAs[] => [
  {
    name,
    rows(config) {
      const { heads, keyHeads, keyDim, valueDim } = deltaSizes(config);
      const [first, n, ours] = [before(keyHeads * keyDim), size(valueDim), tiled(config)];
      return { of: first + heads * n, at: (row) => (row < first ? row : first + ours(Math.floor((row - first) / n)) * n + ((row - first) % n)) };
    },
  },
];

const whole = (valueDim: number): number => valueDim;
const single = (): number => 1;
const queriesAndKeys = (keyWidth: number): number => 2 * keyWidth;

const tiledDelta = mixer({
  "delta.qkv": tiledRows("attn_qkv.weight", whole, queriesAndKeys),
  "delta.gate": tiledRows("attn_gate.weight", whole),
  "delta.beta": tiledRows("ssm_beta.weight", single),
  "delta.step": tiledRows("ssm_alpha.weight", single),
  "delta.stepBias": tiledRows("ssm_dt.bias", single),
  "delta.logRate": tiledRows("ssm_a", single).map((as) => ({ ...as, elements: rates })),
  "delta.kernel": tiledRows("ssm_conv1d.weight", whole, queriesAndKeys),
  "delta.out": [{ name: "ssm_out.weight", columns: (config) => ({ size: deltaSizes(config).valueDim, at: tiled(config) }) }],
});

/** By the list of the layers that are recurrent, or one of so many that is not. */
function linearTypes(file: GgufFields, usualInterval: number): JsonObject {
  const recurrent = file.list("attention.recurrent_layers");
  const interval = file.integer("full_attention_interval", usualInterval);
  return { layer_types: layersOf(file).map((l) => ((recurrent === undefined ? (l + 1) % interval !== 0 : recurrent[l] === 1) ? "linear_attention" : "full_attention")) };
}
const recurrentLayers = ({ mixers }: ModelConfig): GgufKeys => ({ "attention.recurrent_layers": mixers.map(({ kind }) => kind !== "attention") });

function deltaFields(file: GgufFields): JsonObject {
  const heads = file.integer("ssm.time_step_rank");
  return {
    ...linearTypes(file, 4),
    linear_conv_kernel_dim: file.integer("ssm.conv_kernel"),
    linear_key_head_dim: file.integer("ssm.state_size"),
    linear_num_key_heads: file.integer("ssm.group_count"),
    linear_num_value_heads: heads,
    linear_value_head_dim: file.integer("ssm.inner_size") / heads,
    partial_rotary_factor: file.integer("rope.dimension_count") / (file.common["head_dim"] as number),
  };
}

function deltaKeys(config: ModelConfig): GgufKeys {
  const { heads = 0, keyHeads, keyDim, valueDim = 0, kernel } = mixerOf(config, "deltaNet") ?? {};
  return {
    ...recurrentLayers(config),
    "ssm.conv_kernel": kernel,
    "ssm.state_size": keyDim,
    "ssm.group_count": keyHeads,
    "ssm.time_step_rank": heads,
    "ssm.inner_size": heads * valueDim,
  };
}

/** How far apart the layers of a kind are, and the first of them; one alone is as far from the next as there are layers. */
const regular = ([first = 0, second]: readonly number[], layers: number) => ({ period: second === undefined ? layers : second - first, offset: first });

export const ggufMixers: readonly GgufArchitecture[] = [
  {
    arch: "lfm2moe", modelType: "lfm2_moe", paired: false,
    names: namedGguf({ norm: "token_embd_norm.weight", ...mixer({ "conv.in": "shortconv.in_proj.weight", "conv.kernel": "shortconv.conv.weight", "conv.out": "shortconv.out_proj.weight" }) }),
    fields: (file) => ({
      norm_eps: file.number("attention.layer_norm_rms_epsilon"),
      conv_L_cache: file.integer("shortconv.l_cache"),
      layer_types: keyHeadsOf(file).map((heads) => (heads > 0 ? "full_attention" : "conv")),
      num_dense_layers: file.common["first_k_dense_replace"] as number,
      use_expert_bias: file.hasTensor("exp_probs_b.bias"),
    }),
    keys: (config) => ({ ...keysOfLayers(config), "shortconv.l_cache": mixerOf(config, "shortConv")?.kernel }),
  },
  {
    arch: "qwen3next", modelType: "qwen3_next", paired: false, normalised: true, names: namedGguf({ ...qwen, ...stepsByKeyHead("ssm_ba.weight") }), others: byKeyHead("ssm_in.weight"),
    fields: deltaFields,
    keys: deltaKeys,
  },
  {
    arch: "qwen35moe", modelType: "qwen3_5_moe_text", paired: false, names: namedGguf({ ...qwen, ...tiledDelta }),
    fields: deltaFields,
    keys(config) {
      // Pairs that turn by time, height and width, in thirds as published, and by nothing: a text has one position for all.
      const pairs = (config.ropes[0]?.rotary ?? 0) / 2;
      return { ...deltaKeys(config), "rope.dimension_sections": [0, 1, 2].map((i) => Math.max(0, Math.ceil((pairs - i) / 3))).concat(0) };
    },
  },
  {
    // For the published decays; those of a checkpoint that holds others have no tensor.
    arch: "minimax-01", modelType: "minimax", paired: false, onlyExperts: true,
    names: namedGguf(mixer({
      "lightning.qkv": rowsOf("attn_qkv.weight", ({ heads, headDim }) => ({ groups: heads, parts: [headDim, headDim, headDim] }), 0, 1, 2),
      "lightning.norm": "attn_norm_2.weight", "lightning.gate": "attn_gate.weight", "lightning.out": "attn_output.weight",
    })),
    fields(file) {
      const kept = file.number("residual_scale");
      return { ...linearTypes(file, 8), full_attn_alpha_factor: kept, linear_attn_alpha_factor: kept, mlp_alpha_factor: kept };
    },
    keys: (config) => ({ ...recurrentLayers(config), residual_scale: config.blend?.ffn.kept }),
  },
  {
    arch: "jamba", modelType: "jamba", paired: false,
    names: namedGguf(mixer({
      "mamba.in": "ssm_in.weight", "mamba.kernel": "ssm_conv1d.weight", "mamba.kernelBias": "ssm_conv1d.bias", "mamba.select": "ssm_x.weight", "mamba.step": "ssm_dt.weight",
      "mamba.stepBias": "ssm_dt.bias", "mamba.stepNorm": "ssm_dt_norm.weight", "mamba.inputNorm": "ssm_b_norm.weight", "mamba.outputNorm": "ssm_c_norm.weight",
      "mamba.logRate": [{ name: "ssm_a", elements: rates }], "mamba.skip": "ssm_d", "mamba.out": "ssm_out.weight",
    })),
    fields(file) {
      const layers = file.common["num_hidden_layers"] as number;
      const attention = regular(keyHeadsOf(file).flatMap((heads, l) => (heads > 0 ? [l] : [])), layers);
      const experts = regular(file.layersWith("ffn_gate_inp.weight"), layers);
      return {
        num_experts: file.integer("expert_count", 1) || 1,
        attn_layer_period: attention.period,
        attn_layer_offset: attention.offset,
        expert_layer_period: experts.period,
        expert_layer_offset: experts.offset,
        mamba_d_conv: file.integer("ssm.conv_kernel"),
        mamba_d_state: file.integer("ssm.state_size"),
        mamba_dt_rank: file.integer("ssm.time_step_rank"),
        mamba_expand: file.integer("ssm.inner_size") / file.integer("embedding_length"),
        mamba_conv_bias: file.hasTensor("ssm_conv1d.bias"),
      };
    },
    keys(config) {
      const { channels, states, rank, kernel } = mixerOf(config, "mamba") ?? {};
      return { ...keysOfLayers(config), "ssm.conv_kernel": kernel, "ssm.inner_size": channels, "ssm.state_size": states, "ssm.time_step_rank": rank };
    },
  },
];
