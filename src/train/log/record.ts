import type { LoadStatistics } from "../../routing/statistics.js";

/**
 * One line of the training log: what is known after an optimiser step. Field names are the log's own (snake_case), and
 * every sink (JSONL, TensorBoard, progress line) reads this record and nothing else. JSON has no NaN: it is written as null.
 */
export interface StepRecord {
  /** Optimiser steps done, from 1; 0 for an evaluation before the first. */
  step: number;
  /** Tokens trained on since the beginning of the run. */
  tokens: number;
  /** Mean over the step's batches of everything that is minimised: cross-entropy, balance and z terms. */
  loss: number;
  /** Cross-entropy alone, nats per token. */
  ce: number;
  /** Balance loss, mean over the MoE layers; null when none is configured. */
  aux: AuxRecord | null;
  /** Router z-loss as it enters the loss, mean over the layers; null when it is off. */
  z: number | null;
  /** Peak rate times the schedule's factor. */
  lr: number;
  /** L2 norms of the gradient before clipping, whole and by kind of parameter. */
  grad_norm: { total: number; dense: number; expert: number; router: number };
  /** One per MoE layer, in the order of the model; empty for a dense model. */
  moe: LayerRecord[];
  /** Tokens per second since the last record. */
  tok_s: number;
  /** Model FLOPs per second, forward and backward; recomputation does not count. */
  flops_s: number;
  /** flops_s / the threads' peak, measured when training began; null on the reference engine, which measures none. */
  mfu: number | null;
  /** Resident memory of the process in bytes. */
  rss: number;
  /** Only on steps with an evaluation: on validation data, without balance terms. */
  eval?: { loss: number; perplexity: number };
}

export interface AuxRecord {
  /** Name of the balancing method, "switch" for example: it decides what the numbers mean. */
  method: string;
  /** Before the coefficient. */
  raw: number;
  /** As it enters the loss. */
  scaled: number;
  /** What `raw` is when balanced, and when one set of K experts gets everything. */
  min: number;
  max: number;
}

export interface LayerRecord extends LoadStatistics {
  /** Index of the layer in the model. */
  layer: number;
  /** Mean entropy in nats of a token's scores. */
  token_entropy: number;
  /** Mean gap between the k-th score and the next. */
  topk_margin: number;
  /** Mean over tokens of logsumexp(logits)^2. */
  router_z: number;
  /** The selection bias [E]; null when the router has none. */
  bias: number[] | null;
}
