import type { Tape } from "../../autograd/tape.js";
import type { AttentionDims, ExpertMatrices } from "../../engine/engine.js";
import { check } from "../../errors.js";
import { feedForward } from "../../moe/experts.js";
import { moeLayer, type MoeOutput } from "../../moe/layer.js";
import { add, attention, gatherRows, linear, rmsNorm, scale } from "../../ops/index.js";
import type { Routing } from "../../routing/types.js";
import { type Tensor, view } from "../../tensor/tensor.js";
import type { DecoderCache, DecoderLayerState } from "./cache.js";
import type { Parameters } from "../parameters.js";
import { sequenceCapacityRouter } from "./capacity.js";
import { type EncoderDecoderConfig, isSparse, type StackName } from "./config.js";
import { positionBias } from "./position-bias.js";

export interface EncoderDecoderParts {
  config: EncoderDecoderConfig;
  parameters: Parameters;
}

interface StackStates {
  /** [T, D], after the last norm. */
  hidden: Tensor;
  /** One decision per sparse layer, in order. */
  routings: Routing[];
}

/** Hidden states of `batch` sources of one length, one after the other in `ids` i32 [T]; every token sees all of its source. */
export function encode(tape: Tape, parts: EncoderDecoderParts, ids: Tensor, batch: number): StackStates {
  const length = ids.size / batch;
  check(Number.isInteger(length) && length > 0, "ERR_SWITCHYARD_USAGE", () => `encode: expected ${batch} sources of one length of at least 1, got ${ids.size} tokens in all`);
  const bias = biasOf(tape, parts, "encoder", length, length);
  const routings: Routing[] = [];
  let x = embed(tape, parts, "encoder", ids);
  for (let l = 0; l < parts.config.encoder.layers; l++) {
    const at = `encoder.layers.${l}`;
    const normed = norm(tape, parts, `${at}.attention`, x);
    const [q, k, v] = (["q", "k", "v"] as const).map((name) => project(tape, parts, `${at}.attention.${name}`, normed)) as [Tensor, Tensor, Tensor];
    const mixed = attention(tape, q, k, v, { batch, queries: length, keys: length, keyStride: length, causal: false, ...headDims(parts.config) }, { bias });
    x = add(tape, x, project(tape, parts, `${at}.attention.out`, mixed));
    x = feedForwardBlock(tape, parts, "encoder", l, x, routings, Array.from({ length: batch }, () => new Int32Array(parts.config.moe.experts)));
  }
  return { hidden: norm(tape, parts, "encoder", x), routings };
}

/** Fills the caches' keys and values of the sources that they read: hidden states [sum of the sources' lengths, D] of `encode`. */
export function readSources(tape: Tape, parts: EncoderDecoderParts, hidden: Tensor, caches: readonly DecoderCache[]): void {
  for (let l = 0; l < parts.config.decoder.layers; l++) {
    for (const name of ["k", "v"] as const) {
      const all = project(tape, parts, `decoder.layers.${l}.cross.${name}`, hidden);
      let row = 0;
      for (const { layers, sourceLength } of caches) {
        tape.engine.copy((layers[l] as DecoderLayerState).source[name], view(all, [sourceLength, all.cols], row * all.cols));
        row += sourceLength;
      }
      tape.arena.release(all);
    }
  }
}

/**
 * Hidden states of the next tokens of each cached sequence, equally many for each, one sequence after the other in `ids` i32 [T].
 * The caches grow by them. Not recorded for a backward pass.
 */
export function decode(tape: Tape, parts: EncoderDecoderParts, ids: Tensor, caches: readonly DecoderCache[]): StackStates {
  const { config } = parts;
  const length = ids.size / caches.length;
  check(Number.isInteger(length) && length > 0, "ERR_SWITCHYARD_USAGE", () => `decode: expected equally many tokens, at least 1, for each of ${caches.length} sequences, got ${ids.size} in all`);
  for (const cache of caches) cache.reserve(length);
  const biases = caches.map((cache) => biasOf(tape, parts, "decoder", length, cache.length + length));
  const routings: Routing[] = [];
  let x = embed(tape, parts, "decoder", ids);
  for (let l = 0; l < config.decoder.layers; l++) {
    const at = `decoder.layers.${l}`;
    const normed = norm(tape, parts, `${at}.attention`, x);
    const [k, v] = [project(tape, parts, `${at}.attention.k`, normed), project(tape, parts, `${at}.attention.v`, normed)];
    const own = sequenceBySequence(tape, project(tape, parts, `${at}.attention.q`, normed), caches, (cache, q, i) => {
      const rows = (t: Tensor) => view(t, [length, t.cols], i * length * t.cols);
      const store = cache.append(l, rows(k), rows(v));
      const dims = { batch: 1, queries: length, keys: cache.length + length, keyStride: cache.capacity, ...headDims(config) };
      return attention(tape, q, store.k, store.v, dims, { bias: biases[i] });
    });
    x = add(tape, x, project(tape, parts, `${at}.attention.out`, own));
    const crossQuery = project(tape, parts, `${at}.cross.q`, norm(tape, parts, `${at}.cross`, x));
    const crossed = sequenceBySequence(tape, crossQuery, caches, (cache, q) => {
      const { source } = cache.layers[l] as DecoderLayerState;
      const keys = cache.sourceLength;
      return attention(tape, q, source.k, source.v, { batch: 1, queries: length, keys, keyStride: keys, causal: false, ...headDims(config) });
    });
    x = add(tape, x, project(tape, parts, `${at}.cross.out`, crossed));
    x = feedForwardBlock(tape, parts, "decoder", l, x, routings, caches.map((cache) => (cache.layers[l] as DecoderLayerState).used_E));
  }
  for (const cache of caches) cache.length += length;
  return { hidden: norm(tape, parts, "decoder", x), routings };
}

/** Logits [rows, V] of the decoder's hidden states [rows, D]. */
export function vocabularyLogits(tape: Tape, { config, parameters }: EncoderDecoderParts, hidden: Tensor): Tensor {
  if (!config.tiedEmbeddings) return linear(tape, hidden, parameters.get("head"), undefined, "f64");
  return linear(tape, scale(tape, hidden, config.width ** -0.5), parameters.get("embedding"), undefined, "f64");
}

/**
 * Scores are not scaled: T5's initial values account for that. Large as they are, their softmax amplifies what rounding changed in them, and
 * in what they are made of: hence sums in double precision.
 */
const headDims = ({ heads, headDim }: EncoderDecoderConfig): Pick<AttentionDims, "heads" | "kvHeads" | "headDim" | "scale" | "precision"> => ({ heads, kvHeads: heads, headDim, scale: 1, precision: "f64" });

const project = (tape: Tape, { parameters }: EncoderDecoderParts, name: string, x: Tensor): Tensor => linear(tape, x, parameters.get(name), undefined, "f64");
const norm = (tape: Tape, { config, parameters }: EncoderDecoderParts, at: string, x: Tensor): Tensor => rmsNorm(tape, x, parameters.get(`${at}.norm`), config.normEps);

function embed(tape: Tape, { config, parameters }: EncoderDecoderParts, stack: StackName, ids: Tensor): Tensor {
  return gatherRows(tape, parameters.get(config.tiedEmbeddings ? "embedding" : `${stack}.embedding`), ids);
}

function biasOf(tape: Tape, { config, parameters }: EncoderDecoderParts, stack: StackName, queries: number, keys: number): Tensor {
  return positionBias(tape, { table: parameters.get(`${stack}.positions`), bothWays: stack === "encoder", maxDistance: config.maxDistance, queries, keys });
}

function sequenceBySequence(tape: Tape, q: Tensor, caches: readonly DecoderCache[], attend: (cache: DecoderCache, q: Tensor, i: number) => Tensor): Tensor {
  const out = tape.alloc(q.shape);
  const rows = q.rows / caches.length;
  caches.forEach((cache, i) => {
    const slice = (t: Tensor) => view(t, [rows, t.cols], i * rows * t.cols);
    const y = attend(cache, slice(q), i);
    tape.engine.copy(slice(out), y);
    tape.arena.release(y);
  });
  return out;
}

/** x + ffn(norm(x)), dense or a mixture. `used` has the rows given to each expert so far, by sequence. */
function feedForwardBlock(tape: Tape, parts: EncoderDecoderParts, stack: StackName, l: number, x: Tensor, routings: Routing[], used: readonly Int32Array[]): Tensor {
  const { config, parameters } = parts;
  const at = (name: string) => `${stack}.layers.${l}.${name}`;
  const inner = norm(tape, parts, at("ffn"), x);
  if (!isSparse(config[stack], l)) {
    const dense = { up: parameters.weight(at("ffn.up")), down: parameters.weight(at("ffn.down")) };
    return add(tape, x, feedForward(tape, inner, dense, { activation: config.activation, gated: false }));
  }
  const { out, routing } = sparseBlock(tape, parts, stack, l, inner, used);
  routings.push(routing);
  return add(tape, x, out);
}

/** The mixture of layer `l` on normed inputs [T, D]. */
export function sparseBlock(tape: Tape, { config, parameters }: EncoderDecoderParts, stack: StackName, l: number, x: Tensor, used: readonly Int32Array[]): MoeOutput {
  const at = (name: string) => `${stack}.layers.${l}.${name}`;
  const matrices = (name: string) => parameters.experts(at(name))[0] as ExpertMatrices; // without a gate, in one part
  const sparse = {
    router: { weight: parameters.get(at("router.weight")), bias: parameters.find(at("router.bias")) },
    experts: { up: matrices("experts.up"), down: matrices("experts.down") },
  };
  return moeLayer(tape, x, sparse, config.moe, undefined, sequenceCapacityRouter(config.moe.router, config.expertCapacity, used));
}
