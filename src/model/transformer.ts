import type { Tape } from "../autograd/tape.js";
import type { ExpertMatrices } from "../engine/engine.js";
import { check } from "../errors.js";
import { feedForward, type FeedForwardParameters } from "../moe/experts.js";
import { moeLayer, type MoeParameters } from "../moe/layer.js";
import { add, crossEntropy, dropout, gatherRows, layerNorm, linear, mean, rmsNorm, scale } from "../ops/index.js";
import type { Router, RouterParameters, Routing } from "../routing/types.js";
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

interface ForwardInput {
  /** i32 [T], one sequence after the other. */
  ids: Tensor;
  /** Sequences that start here, all of one length; or sequences of any lengths that go on. */
  batch: number | readonly CachedSequence[];
  /** Dropout rate of the embeddings and of both residual branches; acts in training only. */
  dropout?: number | undefined;
}

interface HiddenStates {
  /** [T, D], after the last norm. */
  hidden: Tensor;
  /** One decision per sparse layer, in order. */
  routings: Routing[];
}

/** The one decoder-only transformer: blocks of a sequence mixer and a dense or sparse feed-forward part. */
export function forward(tape: Tape, parts: TransformerParts, input: ForwardInput): HiddenStates {
  const pass = layers(tape, parts, input);
  const allLayers = () => {
    for (;;) {
      const { done, value } = pass.next();
      if (done === true) return value;
    }
  };
  return ended(parts, input, tape.engine.together(allLayers));
}

/**
 * The same, and between two layers whoever shares the event loop has a turn: a layer of a long prompt takes long enough. `afterTurn` is called after each and
 * may throw. Throws ERR_SWITCHYARD_USAGE if a cache was disposed of meanwhile, or the weights are others.
 */
export async function forwardInTurns(tape: Tape, parts: TransformerParts, input: ForwardInput, afterTurn: () => void): Promise<HiddenStates> {
  const { parameters } = parts;
  const { version } = parameters;
  const pass = layers(tape, parts, input);
  for (;;) {
    const { done, value } = tape.engine.together(() => pass.next());
    if (done === true) return ended(parts, input, value);
    parameters.cache?.endLayer();
    await new Promise(setImmediate);
    afterTurn();
    check(parameters.version === version, "ERR_SWITCHYARD_USAGE", () => "generate: the model was trained, or got another router, while it read a prompt; let one end before the other begins");
    if (typeof input.batch !== "number") for (const { cache } of input.batch) cache.checkLive();
  }
}

/** Nothing can fail any more. */
function ended({ parameters }: TransformerParts, { batch }: ForwardInput, result: HiddenStates): HiddenStates {
  parameters.cache?.endPass();
  if (typeof batch !== "number") for (const { cache, length } of batch) cache.grow(length);
  return result;
}

/** Yields after each layer but the last. */
function* layers(tape: Tape, parts: TransformerParts, { ids, batch, dropout: rate = 0 }: ForwardInput): Generator<undefined, HiddenStates> {
  const { config, parameters } = parts;
  const { branches, blend, embeddingScale = 1, residualScale = 1 } = config;
  const sequences = new Sequences(tape, parts.ropes, config, batch, ids.size);
  if (typeof batch !== "number") for (const { cache, length } of batch) cache.reserve(length);
  const routings: Routing[] = [];
  const scaled = (x: Tensor, factor: number) => (factor === 1 ? x : scale(tape, x, factor));
  const block = (l: number, x: Tensor): Tensor => {
    const before = (name: "attention" | "ffn", input: Tensor) => (branches === "after" ? input : norm(tape, parts, `layers.${l}.${name}.norm`, input));
    const addTo = (sum: Tensor, name: "attention" | "ffn", y: Tensor) => {
      const { kept, added } = (name === "ffn" ? blend?.ffn : blend?.attention[l]) ?? { kept: 1, added: residualScale };
      const after = branches === "after" || branches === "around" ? norm(tape, parts, `layers.${l}.${name}.postNorm`, y) : y;
      return add(tape, scaled(sum, kept), dropout(tape, scaled(after, added), rate));
    };
    const normed = before("attention", x);
    const attended = addTo(branches === "normed" ? normed : x, "attention", mixerOf(config, l).forward(tape, parts, l, normed, sequences));
    const inner = branches === "parallel" ? normed : before("ffn", attended);
    return addTo(branches === "normed" ? inner : attended, "ffn", feedForwardBlock(tape, parts, l, inner, ids, routings));
  };
  let x = dropout(tape, scaled(gatherRows(tape, parameters.weight("embedding") as Tensor, ids), embeddingScale), rate);
  for (let l = 0; l < config.layers; l++) {
    const input = x;
    x = tape.scope(() => block(l, input), (out) => [out, ...tensorsOf(routings.at(-1))]);
    if (!tape.recording) tape.arena.release(input);
    if (l < config.layers - 1) yield;
  }
  return { hidden: norm(tape, parts, "norm", x), routings };
}

/** What outlives a layer: its decision is read at the end. Asking for the losses computes them, while what they are made of is there. */
const tensorsOf = (routing: Routing | undefined): (Tensor | undefined)[] =>
  routing === undefined ? [] : [routing.logits, routing.scores, routing.choice, routing.selectionBias, routing.chosen, routing.experts, routing.weights, ...Object.values(routing.losses)];

/** RMSNorm or LayerNorm, as the config says, with the parameters of that name. */
function norm(tape: Tape, { config, parameters }: TransformerParts, name: string, x: Tensor): Tensor {
  const weight = parameters.get(name);
  return config.layerNorm === undefined ? rmsNorm(tape, x, weight, config.normEps, { offset: config.normOffset }) : layerNorm(tape, x, weight, parameters.find(`${name}Bias`), config.normEps);
}

function feedForwardBlock(tape: Tape, { config, parameters, router }: TransformerParts, l: number, x: Tensor, ids: Tensor, routings: Routing[]): Tensor {
  if (config.moe === undefined || !config.sparseLayers.includes(l)) return feedForward(tape, x, feedForwardParameters(parameters, l, "ffn"), { activation: config.activation, gated: true });
  const { out, routing } = moeLayer(tape, x, moeParameters(parameters, l), config.moe, ids, router);
  routings.push(routing);
  return out;
}

function feedForwardParameters(parameters: Parameters, l: number, name: "ffn" | "shared"): FeedForwardParameters {
  const { weight, find } = parameters.below(`layers.${l}.${name}.`);
  return { up: weight("up"), down: weight("down"), upBias: find("upBias"), downBias: find("downBias") };
}

function expertParameters(parameters: Parameters, l: number): MoeParameters["experts"] {
  const { experts, find } = parameters.below(`layers.${l}.experts.`);
  const biases = { upBias: find("upBias"), downBias: find("downBias") };
  const { cache } = parameters;
  if (cache !== undefined) {
    return (plan, decide) => {
      const { up, beside, down } = cache.use(l, plan, (next) => decide(routerParameters(parameters, next)).experts);
      return { up, beside, down, ...biases };
    };
  }
  const [up, beside] = experts("up") as [ExpertMatrices, ExpertMatrices?];
  const [down] = experts("down") as [ExpertMatrices];
  return { up, beside, down, ...biases };
}

function routerParameters(parameters: Parameters, l: number): RouterParameters {
  const { get, find } = parameters.below(`layers.${l}.router.`);
  return { weight: get("weight"), bias: find("bias"), noise: find("noise"), selectionBias: find("selectionBias") };
}

/** The tensors of sparse layer `l`. */
export function moeParameters(parameters: Parameters, l: number): MoeParameters {
  const { find, findWeight } = parameters.below(`layers.${l}.shared.`);
  return {
    router: routerParameters(parameters, l),
    experts: expertParameters(parameters, l),
    shared: findWeight("up") === undefined ? undefined : feedForwardParameters(parameters, l, "shared"),
    sharedGate: find("gate"),
  };
}

/** Logits [rows, V] of hidden states [rows, D]. */
export function logits(tape: Tape, { config, parameters }: TransformerParts, hidden: Tensor): Tensor {
  const y = linear(tape, hidden, parameters.weight(config.tiedEmbeddings ? "embedding" : "head"), parameters.find("headBias"));
  return config.logitScale === undefined ? y : scale(tape, y, config.logitScale);
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
