import type { Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { feedForward } from "../moe/experts.js";
import { moeLayer, type MoeParameters } from "../moe/layer.js";
import { add, attention, crossEntropy, dropout, gatherRows, linear, mean, rmsNorm, rope, scale } from "../ops/index.js";
import type { Router, Routing } from "../routing/types.js";
import type { Tensor } from "../tensor/tensor.js";
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

export interface ForwardInput {
  /** i32 [batch * length], row-major by sequence. */
  ids: Tensor;
  batch: number;
  /** Dropout rate of the embeddings and of both residual branches; acts in training only. */
  dropout?: number | undefined;
  /** Keys and values of earlier tokens; grows by this call. */
  cache?: KvCache | undefined;
}

export interface HiddenStates {
  /** [batch * length, D], after the last norm. */
  hidden: Tensor;
  /** One decision per sparse layer, in order. */
  routings: Routing[];
}

/** The one decoder-only transformer: pre-norm blocks of attention and a dense or sparse feed-forward part. */
export function forward(tape: Tape, parts: TransformerParts, { ids, batch, dropout: rate = 0, cache }: ForwardInput): HiddenStates {
  const { config, parameters } = parts;
  const length = ids.size / batch;
  const start = cache?.length ?? 0;
  check(
    Number.isInteger(length) && length > 0 && start + length <= config.context,
    "ERR_SWITCHYARD_USAGE",
    () => `forward: expected 1 to ${config.context - start} tokens per sequence (context ${config.context}, ${start} cached), got ${length}`,
  );
  const positions = tape.constant([ids.size], Int32Array.from({ length: ids.size }, (_, i) => start + (i % length)), "i32");
  const routings: Routing[] = [];
  let x = dropout(tape, gatherRows(tape, parameters.get("embedding"), ids), rate);
  for (let l = 0; l < config.layers; l++) {
    const normed = rmsNorm(tape, x, parameters.get(`layers.${l}.attention.norm`), config.normEps);
    x = add(tape, x, dropout(tape, attentionBlock(tape, parts, l, normed, { batch, length, positions, cache }), rate));
    const inner = rmsNorm(tape, x, parameters.get(`layers.${l}.ffn.norm`), config.normEps);
    x = add(tape, x, dropout(tape, feedForwardBlock(tape, parts, l, inner, ids, routings), rate));
  }
  if (cache !== undefined) cache.length += length;
  return { hidden: rmsNorm(tape, x, parameters.get("norm"), config.normEps), routings };
}

interface SequenceLayout {
  batch: number;
  length: number;
  positions: Tensor;
  cache: KvCache | undefined;
}

function attentionBlock(tape: Tape, { config, parameters, ropeTable }: TransformerParts, l: number, x: Tensor, { batch, length, positions, cache }: SequenceLayout): Tensor {
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
  const dims = { batch, queries: length, heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim) };
  const y =
    cache === undefined
      ? attention(tape, q, k, v, { ...dims, keys: length, keyStride: length })
      : (({ k: keys, v: values }) => attention(tape, q, keys, values, { ...dims, keys: cache.length + length, keyStride: cache.capacity }))(cache.append(l, k, v, length));
  return linear(tape, y, parameters.get(at("out")), parameters.find(at("outBias")));
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
