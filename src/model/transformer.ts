import type { Tape } from "../autograd/tape.js";
import { feedForward } from "../moe/experts.js";
import { moeLayer, type MoeParameters } from "../moe/layer.js";
import { add, crossEntropy, dropout, gatherRows, linear, mean, rmsNorm, scale } from "../ops/index.js";
import type { Router, Routing } from "../routing/types.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import { mixerOf } from "./mixer.js";
import type { Parameters } from "./parameters.js";
import type { RopeTables } from "./rope.js";
import { type CachedSequence, Sequences } from "./sequences.js";

/** What `forward` needs of a model. */
export interface TransformerParts {
  config: ModelConfig;
  parameters: Parameters;
  ropes: RopeTables;
  /** A user's own router instead of the configured one. */
  router?: Router | undefined;
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

/** The one decoder-only transformer: pre-norm blocks of a sequence mixer and a dense or sparse feed-forward part. */
export function forward(tape: Tape, parts: TransformerParts, { ids, batch, dropout: rate = 0 }: ForwardInput): HiddenStates {
  const { config, parameters } = parts;
  const sequences = new Sequences(tape, parts.ropes, batch, ids.size, config.context);
  if (typeof batch !== "number") for (const { cache, length } of batch) cache.reserve(length);
  const routings: Routing[] = [];
  let x = dropout(tape, gatherRows(tape, parameters.get("embedding"), ids), rate);
  for (let l = 0; l < config.layers; l++) {
    const normed = rmsNorm(tape, x, parameters.get(`layers.${l}.attention.norm`), config.normEps);
    x = add(tape, x, dropout(tape, mixerOf(config, l).forward(tape, parts, l, normed, sequences), rate));
    const inner = rmsNorm(tape, x, parameters.get(`layers.${l}.ffn.norm`), config.normEps);
    x = add(tape, x, dropout(tape, feedForwardBlock(tape, parts, l, inner, ids, routings), rate));
  }
  if (typeof batch !== "number") for (const { cache, length } of batch) cache.grow(length);
  return { hidden: rmsNorm(tape, x, parameters.get("norm"), config.normEps), routings };
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
