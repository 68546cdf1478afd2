import type { Tape } from "../autograd/tape.js";
import type { AttentionDims } from "../engine/engine.js";
import type { IndexerDims } from "../engine/mixer-ops.js";
import { add, attention as attentionOp, binary, lightningIndexer, linear, linears, mul, rmsNorm, rope, type RopePlaces, scale, unary } from "../ops/index.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { AttentionConfig, ModelConfig } from "./config.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import type { CachedSequence, Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/** Grouped-query attention; its state is the keys and the values, [capacity, kvHeads * headDim] each. */
export const attention: Mixer = {
  parameters: attentionParameters,
  state: ({ kvHeads, headDim }, _, capacity) => [[capacity, kvHeads * headDim], [capacity, kvHeads * headDim]],
  keys: 2,
  rewinds: true,
  forward: attend,
};

function attentionParameters({ width, heads, kvHeads, headDim, qkvBias, outputBias, qkNorm, sinks, outputGate }: ModelConfig): MixerParameter[] {
  const list: MixerParameter[] = [];
  const normed = qkNorm === "row" ? "row" : qkNorm === "head" || qkNorm === "rotated-head" ? "head" : undefined;
  for (const [name, n] of [["q", heads], ["k", kvHeads], ["v", kvHeads]] as const) {
    list.push({ name, shape: [n * headDim, width], init: "normal", bias: qkvBias });
    if (normed !== undefined && name !== "v") list.push({ name: `${name}Norm`, shape: [normed === "head" ? headDim : n * headDim], init: "one" });
  }
  if (outputGate) list.push({ name: "gate", shape: [heads * headDim, width], init: "normal", bias: outputGate.bias });
  if (sinks) list.push({ name: "sinks", shape: [heads], init: "zero" });
  list.push({ name: "out", shape: [width, heads * headDim], init: "residual", bias: outputBias });
  return list;
}

function attend(tape: Tape, { config, parameters }: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor {
  const { heads, kvHeads, headDim, normEps, normOffset: offset, qkNorm, clipQkv } = config;
  const layer = config.mixers[l] as AttentionConfig;
  const { get, find, weight, findWeight } = parameters.below(`layers.${l}.attention.`);
  const map = (name: "q" | "k" | "v") => ({ weight: weight(name), bias: find(`${name}Bias`) });
  const [xq, xk, xv] = linears(tape, x, [map("q"), map("k"), map("v")]) as [Tensor, Tensor, Tensor];
  const clipped = (y: Tensor) => (clipQkv === undefined ? y : clip(tape, y, clipQkv));
  const prepared = (name: "q" | "k", y: Tensor) =>
    clipped(qkNorm === "head" || qkNorm === "row" ? rmsNorm(tape, y, get(`${name}Norm`), normEps, { offset }) : y);
  const placed = (name: "q" | "k", y: Tensor, where: RopePlaces | undefined) => {
    const n = name === "q" ? heads : kvHeads;
    const { rotary = headDim, interleaved = false } = config.ropes[layer.rope ?? -1] ?? {};
    const rotated = where === undefined ? y : rope(tape, y, where, { heads: n, headDim, rotary, interleaved });
    if (qkNorm === "rotated-head") return rmsNorm(tape, rotated, get(`${name}Norm`), normEps, { offset });
    return qkNorm === "rotated-unit" && where !== undefined ? rmsNorm(tape, rotated, undefined, normEps, { size: headDim }) : rotated;
  };
  const where = layer.rope === undefined ? undefined : sequences.rope(layer.rope);
  const placedQ = placed("q", prepared("q", xq), where);
  const q = layer.temperature === undefined ? placedQ : mul(tape, placedQ, sequences.temperature(layer.temperature));
  const v = clipped(xv);
  const k = placed("k", prepared("k", xk), where);
  const dims = { heads, kvHeads, headDim, scale: config.attentionScale ?? 1 / Math.sqrt(headDim), window: layer.window, chunk: layer.chunk };
  const y = attendOver(tape, { q, k, v, sinks: find("sinks") }, sequences, l, dims);
  const gate = findWeight("gate");
  const gated = gate === undefined ? y : mul(tape, y, unary(tape, "sigmoid", linear(tape, x, gate, find("gateBias"))));
  return linear(tape, gated, weight("out"), find("outBias"));
}

/** x limited to [-limit, limit]; within, exactly x. */
function clip(tape: Tape, x: Tensor, limit: number): Tensor {
  const edge = tape.constant([1], [-limit]);
  const beyond = (y: Tensor) => unary(tape, "relu", add(tape, y, edge));
  return add(tape, binary(tape, "sub", x, beyond(x)), beyond(scale(tape, x, -1)));
}

interface Attended {
  q: Tensor;
  k: Tensor;
  /** May be `k`: see AttentionDims.valueStride. */
  v: Tensor;
  /** [heads] */
  sinks?: Tensor | undefined;
  /** Sparse attention: which keys each query sees. */
  index?: Index | undefined;
}

/** What the lightning indexer compares; shapes as in MixerOps. */
export interface Index {
  q: Tensor;
  k: Tensor;
  weights: Tensor;
  dims: Pick<IndexerDims, "heads" | "headDim" | "topK">;
}

type HeadDims = Omit<AttentionDims, "batch" | "queries" | "keys" | "keyStride">;

/** Attention of the new tokens' queries over their keys and values, and over those in the caches, to which they are added. */
export function attendOver(tape: Tape, attended: Attended, { batch }: Sequences, l: number, dims: HeadDims): Tensor {
  if (typeof batch !== "number") return attendCached(tape, attended, batch, l, dims);
  const { q, k, v, sinks, index } = attended;
  const length = q.rows / batch;
  const seen = { batch, queries: length, keys: length, keyStride: length, ...dims };
  return attentionOp(tape, q, k, v, seen, { sinks, bias: index && chosenKeys(tape, index, seen) });
}

/** The bias that leaves each query its best keys. */
function chosenKeys(tape: Tape, { q, k, weights, dims }: Index, { batch, queries, keys, keyStride }: AttentionDims): Tensor {
  return view(lightningIndexer(tape, q, k, weights, { batch, queries, keys, keyStride, ...dims }), [batch, 1, queries, keys]);
}

/** Sequence by sequence: each has its own number of keys. Not recorded for a backward pass. */
function attendCached(tape: Tape, { q, k, v, sinks, index }: Attended, sequences: readonly CachedSequence[], l: number, dims: HeadDims): Tensor {
  const { engine } = tape;
  const out = tape.alloc([q.rows, dims.heads * (dims.valueDim ?? dims.headDim)]);
  let row = 0;
  for (const { cache, length } of sequences) {
    const rows = (t: Tensor) => view(t, [length, t.cols], row * t.cols);
    const keys = cache.length + length;
    const added = [...new Set([k, v]), ...(index === undefined ? [] : [index.k])];
    const all = added.map((t, i) => {
      const kept = cache.layers[l]?.[i] as Tensor;
      engine.copy(view(kept, [length, kept.cols], cache.length * kept.cols), rows(t));
      return view(kept, [keys, kept.cols]);
    });
    const [allKeys, allValues, allIndexed] = [k, v, index?.k].map((t) => all[added.indexOf(t as Tensor)]) as [Tensor, Tensor, Tensor];
    const seen = { batch: 1, queries: length, keys, keyStride: keys, ...dims };
    const bias = index && chosenKeys(tape, { ...index, q: rows(index.q), k: allIndexed, weights: rows(index.weights) }, seen);
    const y = attentionOp(tape, rows(q), allKeys, allValues, seen, { sinks, bias });
    engine.copy(rows(out), y);
    tape.arena.release(y);
    row += length;
  }
  return out;
}
