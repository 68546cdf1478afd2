/** The model, trainer and random batches of a shape at which training is measured. */
import { loadEngine } from "../../src/engine/load.js";
import type { Engine, Precision } from "../../src/engine/engine.js";
import { modelConfig } from "../../src/model/presets.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { Random } from "../../src/tensor/random.js";
import { trainOptions } from "../../src/train/options.js";
import { type Batch, Trainer } from "../../src/train/trainer.js";

/** Names and values as the PyTorch baseline's flags. */
export const shapes = {
  s: { hidden: 256, layers: 6, heads: 8, inter: 256, experts: 16, topk: 4, vocab: 4096, ctx: 256, batch: 8 },
  s64: { hidden: 256, layers: 6, heads: 8, inter: 256, experts: 64, topk: 4, vocab: 4096, ctx: 256, batch: 8 },
  s8: { hidden: 256, layers: 6, heads: 8, inter: 256, experts: 8, topk: 4, vocab: 4096, ctx: 256, batch: 8 },
  xs: { hidden: 128, layers: 4, heads: 4, inter: 128, experts: 8, topk: 2, vocab: 256, ctx: 64, batch: 12 },
} as const;


export interface Subject {
  trainer: Trainer;
  next: () => Batch;
  /** Per step. */
  tokens: number;
  /** Per step, by the usual formula: 6 x active parameters x tokens, and causal attention (half of 2 x 2 x T^2 x D, times 3). */
  flops: number;
}

/** A trainer at `shape`, on tokens that mean nothing. */
export function subject(shape: (typeof shapes)[keyof typeof shapes], precision: Precision = "f32", engine: Engine = loadEngine()): Subject {
  const { hidden: D, layers: L, heads, inter: F, experts: E, topk: K, vocab: V, ctx, batch } = shape;
  const config = modelConfig({ vocab: V, width: D, layers: L, heads, context: ctx, moe: { experts: E, active: K, hidden: F } });
  const trainer = new Trainer(LanguageModel.create({ config, seed: 1, engine }), trainOptions({ steps: 1_000_000, batch, learningRate: 1e-3, precision, schedule: "constant" }));
  const random = new Random(1);
  const tokens = batch * ctx;
  const draw = () => Int32Array.from({ length: tokens }, () => random.below(V));
  const active = L * (4 * D * D + 3 * D * F * K + D * E) + D * V;
  return { trainer, next: () => ({ inputs: draw(), targets: draw(), batch }), tokens, flops: 6 * active * tokens + L * 6 * batch * ctx ** 2 * D };
}
