import type { Tape } from "../autograd/tape.js";
import type { AttentionDims } from "../engine/engine.js";
import { check } from "../errors.js";
import { feedForward } from "../moe/experts.js";
import { moeLayer, type MoeParameters } from "../moe/layer.js";
import { add, attention, crossEntropy, dropout, gatherRows, linear, mean, rmsNorm, rope, scale } from "../ops/index.js";
import type { Router, Routing } from "../routing/types.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { KvCache } from "./cache.js";
import type { ModelConfig } from "./config.js";
import type { Parameters } from "./parameters.js";

/** What `forward` needs of a model. */
export interface TransformerParts {
  config: ModelConfig;
  parameters: Parameters;
  /** Rotary cosines and sines [context, headDim]. */
  ropeTable: Tensor;
  /** A user's own router instead of the configured one. */
  router?: Router | undefined;
}

/** A sequence that goes on for `length` tokens after those in its cache, which grows by them. */
export interface CachedSequence {
  cache: KvCache;
  length: number;
}

export interface ForwardInput {
  /** i32 [T], one sequence after the other. */
  ids: Tensor;
  /** Sequences that start here, all of one length; or sequences of any lengths that go on. */
  batch: number | readonly CachedSequence[];
  /** Dropout rate of the embeddings and of both residual branches; acts in training only. */
  dropout?: number | undefined;
}

export interface HiddenStates {
  /** [T, D], after the last norm. */
  hidden: Tensor;
  /** One decision per sparse layer, in order. */
  routings: Routing[];
}

/** The one decoder-only transformer: pre-norm blocks of attention and a dense or sparse feed-forward part. */
export function forward(tape: Tape, parts: TransformerParts, { ids, batch, dropout: rate = 0 }: ForwardInput): HiddenStates {
  const { config, parameters } = parts;
  const layout = { batch, positions: tape.constant([ids.size], positionsOf(ids.size, batch, config.context), "i32") };
  const routings: Routing[] = [];
  let x = dropout(tape, gatherRows(tape, parameters.get("embedding"), ids), rate);
  for (let l = 0; l < config.layers; l++) {
    const normed = rmsNorm(tape, x, parameters.get(`layers.${l}.attention.norm`), config.normEps);
    x = add(tape, x, dropout(tape, attentionBlock(tape, parts, l, normed, layout), rate));
    const inner = rmsNorm(tape, x, parameters.get(`layers.${l}.ffn.norm`), config.normEps);
    x = add(tape, x, dropout(tape, feedForwardBlock(tape, parts, l, inner, ids, routings), rate));
  }
  if (typeof batch !== "number") for (const { cache, length } of batch) cache.length += length;
  return { hidden: rmsNorm(tape, x, parameters.get("norm"), config.normEps), routings };
}

/** Place of each of `tokens` in its sequence. */
function positionsOf(tokens: number, batch: ForwardInput["batch"], context: number): Int32Array {
  const length = typeof batch === "number" ? tokens / batch : 0;
  const runs = typeof batch === "number" ? Array.from({ length: batch }, () => ({ start: 0, length })) : batch.map(({ cache, length: n }) => ({ start: cache.length, length: n }));
  for (const run of runs) {
    check(
      Number.isInteger(run.length) && run.length > 0 && run.start + run.length <= context,
      "ERR_SWITCHYARD_USAGE",
      () => `forward: expected 1 to ${context - run.start} tokens per sequence (context ${context}, ${run.start} cached), got ${run.length}`,
    );
  }
  return Int32Array.from(runs.flatMap(({ start, length: n }) => Array.from({ length: n }, (_, i) => start + i)));
}

interface SequenceLayout {
  batch: ForwardInput["batch"];
  /** i32 [T] */
  positions: Tensor;
}

function attentionBlock(tape: Tape, { config, parameters, ropeTable }: TransformerParts, l: number, x: Tensor, { batch, positions }: SequenceLayout): Tensor {
  const { heads, kvHeads, headDim } = config;
  const at = (name: string) => `layers.${l}.attention.${name}`;
  const project = (name: "q" | "k" | "v") => linear(tape, x, parameters.get(at(name)), parameters.find(at(`${name}Bias`)));
  const rotated = (name: "q" | "k", n: number) => {
    const norm = parameters.find(at(`${name}Norm`));
    const y = project(name);
    return rope(tape, norm === undefined ? y : rmsNorm(tape, y, norm, config.normEps), { heads: n, headDim, table: ropeTable, positions });
  };
  const q = rotated("q", heads);
  const k = rotated("k", kvHeads);
  const v = project("v");
  const dims = { heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim) };
  const y = typeof batch === "number" ? fullAttention(tape, q, k, v, batch, dims) : cachedAttention(tape, q, k, v, batch, l, dims);
  return linear(tape, y, parameters.get(at("out")), parameters.find(at("outBias")));
}

type HeadDims = Pick<AttentionDims, "heads" | "kvHeads" | "headDim" | "scale">;

function fullAttention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, batch: number, dims: HeadDims): Tensor {
  const length = q.rows / batch;
  return attention(tape, q, k, v, { ...dims, batch, queries: length, keys: length, keyStride: length });
}

/** Sequence by sequence: each has its own number of keys. Not recorded for a backward pass. */
function cachedAttention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, sequences: readonly CachedSequence[], l: number, dims: HeadDims): Tensor {
  const out = tape.alloc(q.shape);
  let row = 0;
  for (const { cache, length } of sequences) {
    const rows = (t: Tensor) => view(t, [length, t.cols], row * t.cols);
    const store = cache.append(l, rows(k), rows(v));
    const y = attention(tape, rows(q), store.k, store.v, { ...dims, batch: 1, queries: length, keys: cache.length + length, keyStride: cache.capacity });
    tape.engine.copy(rows(out), y);
    tape.arena.release(y);
    row += length;
  }
  return out;
}

function feedForwardBlock(tape: Tape, { config, parameters, router }: TransformerParts, l: number, x: Tensor, ids: Tensor, routings: Routing[]): Tensor {
  if (config.moe === undefined || !config.sparseLayers.includes(l)) {
    const dense = { up: parameters.get(`layers.${l}.ffn.up`), down: parameters.get(`layers.${l}.ffn.down`) };
    return feedForward(tape, x, dense, { activation: config.activation, gated: true });
  }
  const { out, routing } = moeLayer(tape, x, moeParameters(parameters, l), config.moe, ids, router);
  routings.push(routing);
  return out;
}

/** The tensors of sparse layer `l`. */
export function moeParameters(parameters: Parameters, l: number): MoeParameters {
  const find = (name: string) => parameters.find(`layers.${l}.${name}`);
  const get = (name: string) => parameters.get(`layers.${l}.${name}`);
  const shared = find("shared.up");
  return {
    router: { weight: get("router.weight"), bias: find("router.bias"), noise: find("router.noise"), selectionBias: find("router.selectionBias") },
    experts: { up: get("experts.up"), down: get("experts.down") },
    shared: shared === undefined ? undefined : { up: shared, down: get("shared.down") },
    sharedGate: find("shared.gate"),
  };
}

/** Logits [rows, V] of hidden states [rows, D]. */
export function logits(tape: Tape, { config, parameters }: TransformerParts, hidden: Tensor): Tensor {
  return linear(tape, hidden, parameters.get(config.tiedEmbeddings ? "embedding" : "head"));
}

export interface Loss {
  /** Mean cross-entropy per token plus the routing losses, one element. */
  total: Tensor;
  /** Mean cross-entropy per token (nats), one element. */
  crossEntropy: Tensor;
  routings: Routing[];
}

/**
 * The training loss for next-token targets i32 [batch * length] (negative: ignored by the sum, still counted by the mean).
 * Each routing loss is computed per layer, and averaged over the layers: never over pooled routing statistics.
 */
export function loss(tape: Tape, parts: TransformerParts, input: ForwardInput, targets: Tensor): Loss {
  const { hidden, routings } = forward(tape, parts, input);
  const ce = mean(tape, crossEntropy(tape, logits(tape, parts, hidden), targets));
  let total = ce;
  for (const { losses } of routings) {
    for (const term of Object.values(losses)) total = add(tape, total, scale(tape, term, 1 / routings.length));
  }
  return { total, crossEntropy: ce, routings };
}
