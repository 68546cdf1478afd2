import type { ModelConfig } from "../config.js";
import type { ParameterSpec } from "../parameters.js";
import { sizeOf } from "../../tensor/tensor.js";
import type { FeedForwardNames } from "./family.js";

/** A published tensor, and the contiguous part of one of our parameters that it is. */
export interface Piece {
  name: string;
  shape: readonly number[];
  /** First element in our parameter. */
  offset: number;
}

const fixed: Readonly<Record<string, string>> = {
  embedding: "model.embed_tokens.weight",
  norm: "model.norm.weight",
  head: "lm_head.weight",
  "attention.norm": "input_layernorm.weight",
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
  "ffn.norm": "post_attention_layernorm.weight",
};

/** A table that embedding and head share is stored once, by some publishers under the head's name. */
export const sharedTableName = (name: string, tensors: ReadonlyMap<string, unknown>): string => (name === fixed["embedding"] && !tensors.has(name) && tensors.has("lm_head.weight") ? "lm_head.weight" : name);

/** Published names of a parameter: one tensor, or gate and up, or those of every expert. */
export function publishedPieces(spec: ParameterSpec, config: ModelConfig, names: FeedForwardNames): Piece[] {
  const [, layer, rest] = /^layers\.(\d+)\.(.+)$/.exec(spec.name) ?? [];
  const name = rest ?? spec.name;
  const prefix = layer === undefined ? "" : `model.layers.${layer}.`;
  const whole = (published: string): Piece[] => [{ name: prefix + published, shape: spec.shape, offset: 0 }];
  if (name in fixed) return whole(fixed[name] as string);

  const up = (path: string, shape: readonly number[], gated: boolean, n: FeedForwardNames, offset = 0): Piece[] => {
    if (!gated) return [{ name: `${prefix}${path}.${n.up}.weight`, shape, offset }];
    const half = [(shape[0] as number) / 2, shape[1] as number];
    return [n.gate, n.up].map((part, i) => ({ name: `${prefix}${path}.${part}.weight`, shape: half, offset: offset + i * sizeOf(half) }));
  };
  const dense: FeedForwardNames = { block: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };
  const gated = config.moe?.gated ?? true;
  const [experts = 0, ...shape] = spec.shape;
  const each = (pieces: (path: string, offset: number) => Piece[]) =>
    Array.from({ length: experts }, (_, e) => pieces(`${names.block}.experts.${e}`, e * sizeOf(shape))).flat();
  switch (name) {
    case "ffn.up":
      return up("mlp", spec.shape, true, dense);
    case "ffn.down":
      return whole("mlp.down_proj.weight");
    case "experts.up":
      return each((path, offset) => up(path, shape, gated, names, offset));
    case "experts.down":
      return each((path, offset) => [{ name: `${prefix}${path}.${names.down}.weight`, shape, offset }]);
    case "shared.up":
      return up(`${names.block}.shared_expert`, spec.shape, gated, dense);
    case "shared.down":
      return whole(`${names.block}.shared_expert.down_proj.weight`);
    case "shared.gate":
      return whole(`${names.block}.shared_expert_gate.weight`);
    case "router.weight":
      return whole(`${names.block}.gate.weight`);
    case "router.bias":
      return whole(`${names.block}.gate.bias`);
    case "router.noise":
      return whole(`${names.block}.noise.weight`);
    default: // "router.selectionBias"
      return whole(`${names.block}.gate.e_score_correction_bias`);
  }
}
