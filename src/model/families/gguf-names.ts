import { sizeOf } from "../../tensor/tensor.js";
import type { ModelConfig } from "../config.js";
import type { ParameterSpec } from "../parameters.js";

/** A tensor of a GGUF file as parts of one of our parameters: run i of `run` elements begins at element `at(i)` there. */
export interface GgufPiece {
  name: string;
  shape: readonly number[];
  run: number;
  at: (i: number) => number;
}

/** Below "blk.N.", but for the first three. A pair is gate and up, which our parameter stacks. */
const names: Readonly<Record<string, string | readonly [gate: string, up: string]>> = {
  embedding: "token_embd.weight",
  norm: "output_norm.weight",
  head: "output.weight",
  "attention.norm": "attn_norm.weight",
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
  "ffn.norm": "ffn_norm.weight",
  "ffn.up": ["ffn_gate.weight", "ffn_up.weight"],
  "ffn.down": "ffn_down.weight",
  "router.weight": "ffn_gate_inp.weight",
  "experts.up": ["ffn_gate_exps.weight", "ffn_up_exps.weight"],
  "experts.down": "ffn_down_exps.weight",
  "shared.up": ["ffn_gate_shexp.weight", "ffn_up_shexp.weight"],
  "shared.down": "ffn_down_shexp.weight",
  "shared.gate": "ffn_gate_inp_shexp.weight",
};

const rotated: readonly string[] = ["attention.q", "attention.k", "attention.qBias", "attention.kBias"];

/**
 * The tensors of a GGUF file that make up a parameter. With `interleaved`, row r of a head of q and k is in the file the
 * r/2-th of the first half of our rows if r is even, of the second if it is odd.
 */
export function ggufPieces({ name: full, shape }: ParameterSpec, config: ModelConfig, interleaved: boolean): GgufPiece[] {
  const [, layer, rest] = /^layers\.(\d+)\.(.+)$/.exec(full) ?? [];
  const ours = rest ?? full;
  const prefix = layer === undefined ? "" : `blk.${layer}.`;
  const theirs = names[ours] as string | readonly [string, string];
  if (typeof theirs !== "string") {
    const matrices = shape.slice(0, -2);
    const half = [(shape.at(-2) as number) / 2, shape.at(-1) as number];
    const run = sizeOf(half);
    return theirs.map((name, part) => ({ name: prefix + name, shape: [...matrices, ...half], run, at: (i) => (2 * i + part) * run }));
  }
  const whole = { name: prefix + theirs, shape: ours === "shared.gate" ? shape.slice(1) : shape };
  if (!interleaved || !rotated.includes(ours)) return [{ ...whole, run: sizeOf(shape), at: () => 0 }];
  const row = sizeOf(shape.slice(1));
  const half = config.headDim / 2;
  return [{ ...whole, run: row, at: (r) => row * (r - (r % config.headDim) + (r % 2) * half + Math.floor((r % config.headDim) / 2)) }];
}
