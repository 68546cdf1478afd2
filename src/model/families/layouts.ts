import type { ModelConfig } from "../config.js";
import type { StoredAs, TensorNames } from "./names.js";

/** A gated feed-forward network, or a stack of them, as the parameters `ours`: gate and up projection, which ours stack, and down, with what their names begin with. */
export function feedForward(ours: string, prefix: string, [gate, up, down]: readonly string[] = ["gate_proj", "up_proj", "down_proj"]): TensorNames["tensors"] {
  const pair = (suffix: string): StoredAs[] => [{ name: `${prefix}${gate}.${suffix}`, half: "gate" }, { name: `${prefix}${up}.${suffix}`, half: "up" }];
  const single = (suffix: string): StoredAs[] => [{ name: `${prefix}${down}.${suffix}` }];
  return { [`${ours}.up`]: pair("weight"), [`${ours}.upBias`]: pair("bias"), [`${ours}.down`]: single("weight"), [`${ours}.downBias`]: single("bias") };
}

/** The names that nearly all share: those of Llama. */
const llama: TensorNames = {
  layer: "model.layers.",
  tensors: {
    embedding: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    normBias: "model.norm.bias",
    head: "lm_head.weight",
    headBias: "lm_head.bias",
    "attention.norm": "input_layernorm.weight",
    "attention.normBias": "input_layernorm.bias",
    "attention.q": "self_attn.q_proj.weight",
    "attention.k": "self_attn.k_proj.weight",
    "attention.v": "self_attn.v_proj.weight",
    "attention.out": "self_attn.o_proj.weight",
    "attention.qBias": "self_attn.q_proj.bias",
    "attention.kBias": "self_attn.k_proj.bias",
    "attention.vBias": "self_attn.v_proj.bias",
    "attention.outBias": "self_attn.o_proj.bias",
    "attention.qNorm": "self_attn.q_norm.weight",
    "attention.kNorm": "self_attn.k_norm.weight",
    "attention.gate": "self_attn.gate_proj.weight",
    "attention.sinks": "self_attn.sinks",
    "attention.qDown": "self_attn.q_a_proj.weight",
    "attention.qDownBias": "self_attn.q_a_proj.bias",
    "attention.qDownNorm": "self_attn.q_a_layernorm.weight",
    "attention.qUp": "self_attn.q_b_proj.weight",
    "attention.kvDown": "self_attn.kv_a_proj_with_mqa.weight",
    "attention.kvDownBias": "self_attn.kv_a_proj_with_mqa.bias",
    "attention.kvDownNorm": "self_attn.kv_a_layernorm.weight",
    "attention.kvUp": "self_attn.kv_b_proj.weight",
    "ffn.norm": "post_attention_layernorm.weight",
    "ffn.normBias": "post_attention_layernorm.bias",
    ...feedForward("ffn", "mlp."),
  },
};

export const named = (base: TensorNames, tensors: TensorNames["tensors"], layer = base.layer): TensorNames => ({ layer, tensors: { ...base.tensors, ...tensors } });

/** Experts one by one below "mlp.experts"; layout (a). */
const oneByOne = feedForward("experts", "mlp.experts.{e}.");

const mixtral = named(llama, {
  ...feedForward("experts", "block_sparse_moe.experts.{e}.", ["w1", "w3", "w2"]),
  "router.weight": "block_sparse_moe.gate.weight",
  "router.bias": "block_sparse_moe.gate.bias",
});

const qwen = named(llama, {
  ...oneByOne,
  ...feedForward("shared", "mlp.shared_expert."),
  "shared.gate": "mlp.shared_expert_gate.weight",
  "router.weight": "mlp.gate.weight",
});

const deepseek = named(llama, {
  ...oneByOne,
  ...feedForward("shared", "mlp.shared_experts."),
  "router.weight": "mlp.gate.weight",
  "router.selectionBias": "mlp.gate.e_score_correction_bias",
});

const granite = named(llama, {
  "experts.up": [{ name: "block_sparse_moe.input_linear.weight" }],
  "experts.down": [{ name: "block_sparse_moe.output_linear.weight" }],
  "router.weight": "block_sparse_moe.router.layer.weight",
  "shared.up": "shared_mlp.input_linear.weight",
  "shared.down": "shared_mlp.output_linear.weight",
});

/**
 * Parts of a matrix that holds several, as `groups` runs of rows, each with `parts` rows of every part in turn: those numbered `taken`, in
 * rising order, each with the rows of all groups together.
 */
export const rowsOf = (name: string, sizes: (config: ModelConfig) => { groups: number; parts: readonly number[] }, ...taken: number[]): StoredAs[] => [
  {
    name,
    rows(config) {
      const { groups, parts } = sizes(config);
      const run = parts.reduce((a, b) => a + b, 0);
      const at = (row: number): number => {
        let within = row % run;
        let before = 0;
        for (const [i, size] of parts.entries()) {
          if (within < size) return taken.includes(i) ? before + Math.floor(row / run) * size + within : -1;
          within -= size;
          if (taken.includes(i)) before += groups * size;
        }
        return -1;
      };
      return { of: groups * run, at };
    },
  },
];

/** Part 0, 1 or 2 of queries, keys and values one below the other in one matrix. */
export const fused = (name: string, part: 0 | 1 | 2): StoredAs[] =>
  rowsOf(name, ({ heads, kvHeads, headDim }) => ({ groups: 1, parts: [heads, kvHeads, kvHeads].map((n) => n * headDim) }), part);

/** Experts one below the other. */
const flat = ([experts = 0, rows = 0, ...cols]: readonly number[]): number[] => [experts * rows, ...cols];

const llama4 = named(llama, {
  ...feedForward("ffn", "feed_forward."),
  ...feedForward("shared", "feed_forward.shared_expert."),
  "experts.up": [{ name: "feed_forward.experts.gate_up_proj", transposed: true }],
  "experts.down": [{ name: "feed_forward.experts.down_proj", transposed: true }],
  "router.weight": "feed_forward.router.weight",
});

const mistral4 = named(deepseek, { "experts.up": [{ name: "mlp.experts.gate_up_proj" }], "experts.down": [{ name: "mlp.experts.down_proj" }] });

/** The language model of one that sees. */
const sees = (base: TensorNames): TensorNames =>
  named(
    base,
    { embedding: "language_model.model.embed_tokens.weight", norm: "language_model.model.norm.weight", head: "language_model.lm_head.weight" },
    "language_model.model.layers.",
  );

/** Tensor names of each published family, and how they hold our parameters. */
export const layouts = {
  llama,
  mixtral,
  qwen,
  deepseek,
  granite,
  /** Our own: Qwen3-MoE's, and names for what only we have. */
  own: named(qwen, {
    "router.bias": "mlp.gate.bias",
    "router.noise": "mlp.noise.weight",
    "router.selectionBias": "mlp.gate.e_score_correction_bias",
    "attention.postNorm": "post_self_attn_layernorm.weight",
    "ffn.postNorm": "post_mlp_layernorm.weight",
  }),
  afmoe: named(deepseek, {
    "attention.postNorm": "post_attention_layernorm.weight",
    "ffn.norm": "pre_mlp_layernorm.weight",
    "ffn.postNorm": "post_mlp_layernorm.weight",
    "router.weight": "mlp.router.gate.weight",
    "router.selectionBias": "mlp.expert_bias",
  }),
  dbrx: named(
    llama,
    {
      embedding: "transformer.wte.weight",
      norm: "transformer.norm_f.weight",
      "attention.norm": "norm_attn_norm.norm_1.weight",
      "ffn.norm": "norm_attn_norm.norm_2.weight",
      "attention.q": fused("norm_attn_norm.attn.Wqkv.weight", 0),
      "attention.k": fused("norm_attn_norm.attn.Wqkv.weight", 1),
      "attention.v": fused("norm_attn_norm.attn.Wqkv.weight", 2),
      "attention.out": "norm_attn_norm.attn.out_proj.weight",
      "experts.up": [
        { name: "ffn.experts.mlp.w1", half: "gate", stored: flat },
        { name: "ffn.experts.mlp.v1", half: "up", stored: flat },
      ],
      "experts.down": [{ name: "ffn.experts.mlp.w2", stored: flat, transposed: true }],
      "router.weight": "ffn.router.layer.weight",
    },
    "transformer.blocks.",
  ),
  ernie: named(deepseek, { "router.selectionBias": [{ name: "mlp.moe_statics.e_score_correction_bias", stored: (shape) => [1, ...shape] }] }),
  exaone: named(deepseek, { "router.selectionBias": "mlp.e_score_correction_bias" }),
  flexOlmo: named(qwen, { "attention.postNorm": "post_attention_layernorm.weight", "ffn.postNorm": "post_feedforward_layernorm.weight" }),
  gptOss: named(llama, {
    "experts.up": [{ name: "mlp.experts.gate_up_proj", transposed: true, interleaved: true }],
    "experts.upBias": [{ name: "mlp.experts.gate_up_proj_bias", interleaved: true }],
    "experts.down": [{ name: "mlp.experts.down_proj", transposed: true }],
    "experts.downBias": "mlp.experts.down_proj_bias",
    "router.weight": "mlp.router.weight",
    "router.bias": "mlp.router.bias",
  }),
  hunyuan: named(llama, {
    ...oneByOne,
    ...feedForward("shared", "mlp.shared_mlp."),
    "attention.qNorm": "self_attn.query_layernorm.weight",
    "attention.kNorm": "self_attn.key_layernorm.weight",
    "router.weight": "mlp.gate.wg.weight",
  }),
  hunyuan3: named(deepseek, {
    ...feedForward("shared", "mlp.shared_mlp."),
    "router.weight": "mlp.router.gate.weight",
    "router.selectionBias": "mlp.expert_bias",
  }),
  llama4,
  llama4Sees: sees(llama4),
  minimaxM2: named(mixtral, { "router.selectionBias": "block_sparse_moe.e_score_correction_bias" }),
  mistral4,
  mistral4Sees: sees(mistral4),
} as const satisfies Record<string, TensorNames>;
