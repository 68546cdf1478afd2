import type { ModelConfig } from "../config.js";
import { feedForward, layouts, named, rowsOf } from "./layouts.js";
import type { StoredAs, TensorNames } from "./names.js";

/* Tensor names of families with other mixers than attention, and of those mixers in our own format. */

/** One filter per row, as convolutions are stored. */
const filters = (name: string): StoredAs[] => [{ name, stored: ([rows = 0, cols = 0]) => [rows, 1, cols] }];

const shortConv = {
  "conv.in": "conv.in_proj.weight",
  "conv.inBias": "conv.in_proj.bias",
  "conv.kernel": filters("conv.conv.weight"),
  "conv.kernelBias": "conv.conv.bias",
  "conv.out": "conv.out_proj.weight",
  "conv.outBias": "conv.out_proj.bias",
};

const deltaNet = {
  "delta.qkv": "linear_attn.in_proj_qkv.weight",
  "delta.gate": "linear_attn.in_proj_z.weight",
  "delta.beta": "linear_attn.in_proj_b.weight",
  "delta.step": "linear_attn.in_proj_a.weight",
  "delta.stepBias": "linear_attn.dt_bias",
  "delta.logRate": "linear_attn.A_log",
  "delta.kernel": filters("linear_attn.conv1d.weight"),
  "delta.norm": "linear_attn.norm.weight",
  "delta.out": "linear_attn.out_proj.weight",
};

const lightning: TensorNames["tensors"] = {
  "lightning.qkv": rowsOf("self_attn.qkv_proj.weight", ({ heads, headDim }) => ({ groups: heads, parts: [headDim, headDim, headDim] }), 0, 1, 2),
  "lightning.norm": "self_attn.norm.weight",
  "lightning.gate": "self_attn.output_gate.weight",
  "lightning.out": "self_attn.out_proj.weight",
  "lightning.slopes": [{ name: "self_attn.slope_rate", stored: ([heads = 0]) => [heads, 1, 1] }],
  "lightning.ofQuery": [{ name: "self_attn.query_decay", stored: (shape) => [...shape, 1] }],
  "lightning.ofKey": [{ name: "self_attn.key_decay", stored: (shape) => [...shape, 1] }],
  "lightning.within": [{ name: "self_attn.diagonal_decay", stored: ([rows = 0, block = 0]) => [1, rows / block, block, block] }],
};

const mamba = {
  "mamba.in": "mamba.in_proj.weight",
  "mamba.inBias": "mamba.in_proj.bias",
  "mamba.kernel": filters("mamba.conv1d.weight"),
  "mamba.kernelBias": "mamba.conv1d.bias",
  "mamba.select": "mamba.x_proj.weight",
  "mamba.stepNorm": "mamba.dt_layernorm.weight",
  "mamba.inputNorm": "mamba.b_layernorm.weight",
  "mamba.outputNorm": "mamba.c_layernorm.weight",
  "mamba.step": "mamba.dt_proj.weight",
  "mamba.stepBias": "mamba.dt_proj.bias",
  "mamba.logRate": "mamba.A_log",
  "mamba.skip": "mamba.D",
  "mamba.out": "mamba.out_proj.weight",
  "mamba.outBias": "mamba.out_proj.bias",
};

const indexer = {
  indexQ: "self_attn.indexer.wq_b.weight",
  indexK: "self_attn.indexer.wk.weight",
  indexKNorm: "self_attn.indexer.k_norm.weight",
  indexKNormBias: "self_attn.indexer.k_norm.bias",
  indexWeights: "self_attn.indexer.weights_proj.weight",
};

/** Names of a layer's mixer, with the prefix that our parameters have. */
export const mixer = (tensors: TensorNames["tensors"]): TensorNames["tensors"] => Object.fromEntries(Object.entries(tensors).map(([ours, stored]) => [`attention.${ours}`, stored]));

/** Queries of all heads, and the gates of their output, head by head in one matrix. */
export function gatedQueries(name: string): TensorNames["tensors"] {
  const part = (suffix: string, number: number) => rowsOf(`${name}.${suffix}`, ({ heads, headDim }) => ({ groups: heads, parts: [headDim, headDim] }), number);
  return mixer({ q: part("weight", 0), qBias: part("bias", 0), gate: part("weight", 1), gateBias: part("bias", 1) });
}

/** Qwen3-Next has the rows of each key head, and of the value heads that it serves, together. */
export function deltaSizes({ mixers }: ModelConfig) {
  const layer = mixers.find(({ kind }) => kind === "deltaNet");
  if (layer?.kind !== "deltaNet") throw new Error("no layer of this model is a DeltaNet");
  const { heads, keyHeads, keyDim, valueDim } = layer;
  const served = heads / keyHeads;
  return { heads, keyHeads, keyDim, valueDim, served, values: served * valueDim };
}

/** Queries, keys and values, and gates. */
export const byKeyHead = (name: string): TensorNames["tensors"] => {
  const sizes = (config: ModelConfig) => {
    const { keyHeads, keyDim, values } = deltaSizes(config);
    return { groups: keyHeads, parts: [keyDim, keyDim, values, values] };
  };
  return mixer({ "delta.qkv": rowsOf(name, sizes, 0, 1, 2), "delta.gate": rowsOf(name, sizes, 3) });
};

/** Strengths of writing and steps of forgetting. */
export const stepsByKeyHead = (name: string): TensorNames["tensors"] => {
  const sizes = (config: ModelConfig) => {
    const { keyHeads, served } = deltaSizes(config);
    return { groups: keyHeads, parts: [served, served] };
  };
  return mixer({ "delta.beta": rowsOf(name, sizes, 0), "delta.step": rowsOf(name, sizes, 1) });
};

const qwen3Moe5 = named(layouts.qwen, { ...mixer(deltaNet), ...gatedQueries("self_attn.q_proj") });

const qwen3Moe5Sees = named(qwen3Moe5, { embedding: "model.language_model.embed_tokens.weight", norm: "model.language_model.norm.weight" }, "model.language_model.layers.");

const stacked: TensorNames["tensors"] = { "experts.up": [{ name: "mlp.experts.gate_up_proj" }], "experts.down": [{ name: "mlp.experts.down_proj" }] };

export const mixerLayouts = {
  lfm2: named(layouts.llama, {
    ...mixer({ ...shortConv, norm: "operator_norm.weight", qNorm: "self_attn.q_layernorm.weight", kNorm: "self_attn.k_layernorm.weight", out: "self_attn.out_proj.weight" }),
    ...feedForward("ffn", "feed_forward.", ["w1", "w3", "w2"]),
    ...feedForward("experts", "feed_forward.experts.{e}.", ["w1", "w3", "w2"]),
    norm: "model.embedding_norm.weight",
    "ffn.norm": "ffn_norm.weight",
    "router.weight": "feed_forward.gate.weight",
    "router.selectionBias": "feed_forward.expert_bias",
  }),
  qwen3Next: named(qwen3Moe5, { ...byKeyHead("linear_attn.in_proj_qkvz.weight"), ...stepsByKeyHead("linear_attn.in_proj_ba.weight") }),
  qwen3Moe5,
  qwen3Moe5Stacked: named(qwen3Moe5, stacked),
  /** The language model of one that sees. */
  qwen3Moe5Sees,
  qwen3Moe5SeesStacked: named(qwen3Moe5Sees, stacked),
  minimax: named(layouts.mixtral, mixer(lightning)),
  jamba: named(layouts.llama, {
    ...mixer(mamba),
    ...feedForward("ffn", "feed_forward."),
    ...feedForward("experts", "feed_forward.experts.{e}."),
    norm: "model.final_layernorm.weight",
    "ffn.norm": "pre_ff_layernorm.weight",
    "router.weight": "feed_forward.router.weight",
  }),
  deepseekSparse: named(layouts.deepseek, mixer(indexer)),
  own: named(layouts.own, mixer({ ...shortConv, ...deltaNet, ...lightning, ...mamba, ...indexer, gateBias: "self_attn.gate_proj.bias" })),
} as const satisfies Record<string, TensorNames>;
