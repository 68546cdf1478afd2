import { check } from "../../errors.js";
import type { LatentSizes, ModelConfig } from "../config.js";
import type { ParameterSpec } from "../parameter-specs.js";
import type { GgufArchitecture } from "./gguf-architecture.js";
import { feedForward, named } from "./layouts.js";
import { type Piece, publishedPieces, type TensorNames } from "./names.js";

/** With the suffix of its kind. */
const network = (ours: string, kind: string): TensorNames["tensors"] => feedForward(ours, "", ["gate", "up", "down"].map((part) => `ffn_${part}${kind}`));

/** What most architectures of GGUF call their tensors. */
export const ggufNames: TensorNames = {
  layer: "blk.",
  tensors: {
    embedding: "token_embd.weight",
    norm: "output_norm.weight",
    normBias: "output_norm.bias",
    head: "output.weight",
    headBias: "output.bias",
    "attention.norm": "attn_norm.weight",
    "attention.normBias": "attn_norm.bias",
    "attention.q": "attn_q.weight",
    "attention.k": "attn_k.weight",
    "attention.v": "attn_v.weight",
    "attention.out": "attn_output.weight",
    "attention.qBias": "attn_q.bias",
    "attention.kBias": "attn_k.bias",
    "attention.vBias": "attn_v.bias",
    "attention.outBias": "attn_output.bias",
    "attention.qNorm": "attn_q_norm.weight",
    "attention.kNorm": "attn_k_norm.weight",
    "attention.gate": "attn_gate.weight",
    "attention.sinks": "attn_sinks.weight",
    "attention.qDown": "attn_q_a.weight",
    "attention.qDownNorm": "attn_q_a_norm.weight",
    "attention.qUp": "attn_q_b.weight",
    "attention.kvDown": "attn_kv_a_mqa.weight",
    "attention.kvDownNorm": "attn_kv_a_norm.weight",
    "attention.kvUp": "attn_kv_b.weight",
    "attention.postNorm": "post_attention_norm.weight",
    "ffn.norm": "ffn_norm.weight",
    "ffn.normBias": "ffn_norm.bias",
    "ffn.postNorm": "post_ffw_norm.weight",
    ...network("ffn", ""),
    ...network("experts", "_exps"),
    ...network("shared", "_shexp"),
    "router.weight": "ffn_gate_inp.weight",
    "router.bias": "ffn_gate_inp.bias",
    "router.selectionBias": "exp_probs_b.bias",
    "shared.gate": "ffn_gate_inp_shexp.weight",
  },
};

/** These names, with those of an architecture that has others or more. */
export const namedGguf = (tensors: TensorNames["tensors"]): TensorNames => named(ggufNames, tensors);

/** What some files have instead. */
const alternatives: TensorNames["tensors"] = { "experts.up": [{ name: "ffn_gate_up_exps.weight" }] };

/**
 * The tensors of a GGUF file that hold a parameter. Some have two forms: with `stored` that of this file is taken. Throws
 * ERR_SWITCHYARD_UNSUPPORTED for a parameter that the architecture has no tensor for.
 */
export function ggufPieces(spec: ParameterSpec, config: ModelConfig, architecture: GgufArchitecture, stored?: { has(name: string): boolean }): Piece[] {
  const { names, arch, others } = architecture;
  const [, layer, rest] = /^layers\.(\d+)\.(.+)$/.exec(spec.name) ?? [];
  const ours = rest ?? spec.name;
  check(Object.hasOwn(names.tensors, ours), "ERR_SWITCHYARD_UNSUPPORTED", () => `GGUF: the architecture "${arch}" has no tensor for "${spec.name}"`);
  const prefix = `${names.layer}${layer}.`;
  if (ours === "attention.kvUp" && stored?.has(`${prefix}attn_kv_b.weight`) !== true) return splitKvUp(prefix, config);
  const turned = rowOrder(ours, config, architecture);
  const pieces = (tensors: TensorNames["tensors"]) => publishedPieces(spec, config, { layer: names.layer, tensors });
  const other = { ...alternatives, ...others };
  const isOther = stored !== undefined && other[ours] !== undefined && pieces(other).every(({ name }) => stored.has(name));
  return pieces(isOther ? other : names.tensors).map((piece) => ({
    ...piece,
    // A vector, in the file.
    shape: ours === "shared.gate" && piece.shape[0] === 1 ? piece.shape.slice(1) : piece.shape,
    at: turned === undefined ? piece.at : (r) => piece.at(turned(r)),
  }));
}

/** The up projection of latent attention in two: for keys, transposed, so that queries can be brought down to the short vector instead; and for values. */
function splitKvUp(prefix: string, { heads, latent }: ModelConfig): Piece[] {
  const { rank, unrotated, value } = latent as LatentSizes;
  const part = (first: number, count: number) => ({ apart: true, rows: heads * count, matrixRows: count, cols: rank, at: (r: number) => (Math.floor(r / count) * (unrotated + value) + first + (r % count)) * rank });
  return [
    { name: `${prefix}attn_k_b.weight`, shape: [heads, rank, unrotated], transposed: true, ...part(0, unrotated) },
    { name: `${prefix}attn_v_b.weight`, shape: [heads, value, rank], transposed: false, ...part(unrotated, value) },
  ];
}

/**
 * Our row of each row in the file, where they differ: an architecture turns the elements of a head in pairs (2i, 2i + 1) or half against half
 * (i, i + n / 2), and its files have the rows in that order, whatever the published checkpoint has.
 */
function rowOrder(ours: string, config: ModelConfig, { paired }: GgufArchitecture): ((r: number) => number) | undefined {
  const [rope] = config.ropes;
  if (rope === undefined || rope.interleaved === paired) return undefined;
  const { headDim, latent } = config;
  const isHead = /^attention\.(q|k|qUp|qBias|kBias)$/.test(ours);
  if (!isHead && !(latent !== undefined && ours.startsWith("attention.kvDown") && ours !== "attention.kvDownNorm")) return undefined;
  const [size, first] = !isHead && latent !== undefined ? [latent.rank + headDim - latent.unrotated, latent.rank] : [headDim, latent?.unrotated ?? 0];
  const half = rope.rotary / 2;
  return (r) => {
    const i = (r % size) - first;
    if (i < 0 || i >= rope.rotary) return r;
    return r - i + (paired ? (i % 2) * half + Math.floor(i / 2) : i < half ? 2 * i : 2 * (i - half) + 1);
  };
}
