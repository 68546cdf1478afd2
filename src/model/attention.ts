import type { Tape } from "../autograd/tape.js";
import type { AttentionDims } from "../engine/engine.js";
import { attention as attentionOp, linear, rmsNorm, rope } from "../ops/index.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { AttentionConfig, ModelConfig } from "./config.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import type { CachedSequence, Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/** Grouped-query attention; its state is the keys and the values, [capacity, kvHeads * headDim] each. */
export const attention: Mixer = {
  parameters: attentionParameters,
  state: ({ kvHeads, headDim }, _, capacity) => [[capacity, kvHeads * headDim], [capacity, kvHeads * headDim]],
  rewinds: true,
  forward: attend,
};

function attentionParameters({ width, heads, kvHeads, headDim, qkvBias, outputBias, qkNorm }: ModelConfig): MixerParameter[] {
  const list: MixerParameter[] = [];
  for (const [name, n] of [["q", heads], ["k", kvHeads], ["v", kvHeads]] as const) {
    list.push({ name, shape: [n * headDim, width], init: "normal" });
    if (qkvBias) list.push({ name: `${name}Bias`, shape: [n * headDim], init: "zero" });
    if (qkNorm !== "none" && name !== "v") list.push({ name: `${name}Norm`, shape: [qkNorm === "head" ? headDim : n * headDim], init: "one" });
  }
  list.push({ name: "out", shape: [width, heads * headDim], init: "residual" });
  if (outputBias) list.push({ name: "outBias", shape: [width], init: "zero" });
  return list;
}

function attend(tape: Tape, { config, parameters }: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor {
  const { heads, kvHeads, headDim, normEps } = config;
  const layer = config.mixers[l] as AttentionConfig;
  const at = (name: string) => `layers.${l}.attention.${name}`;
  const project = (name: "q" | "k" | "v") => linear(tape, x, parameters.get(at(name)), parameters.find(at(`${name}Bias`)));
  const placed = (name: "q" | "k", n: number) => {
    const norm = parameters.find(at(`${name}Norm`));
    const y = norm === undefined ? project(name) : rmsNorm(tape, project(name), norm, normEps);
    return layer.rope === undefined ? y : rope(tape, y, { heads: n, headDim, ...sequences.rope(layer.rope) });
  };
  const q = placed("q", heads);
  const k = placed("k", kvHeads);
  const v = project("v");
  const y = attendOver(tape, q, k, v, sequences, l, { heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim) });
  return linear(tape, y, parameters.get(at("out")), parameters.find(at("outBias")));
}

type HeadDims = Omit<AttentionDims, "batch" | "queries" | "keys" | "keyStride">;

/** Attention of the new tokens' queries over their keys and values, and over those in the caches, to which they are added. */
export function attendOver(tape: Tape, q: Tensor, k: Tensor, v: Tensor, { batch }: Sequences, l: number, dims: HeadDims): Tensor {
  if (typeof batch !== "number") return attendCached(tape, q, k, v, batch, l, dims);
  const length = q.rows / batch;
  return attentionOp(tape, q, k, v, { ...dims, batch, queries: length, keys: length, keyStride: length });
}

/** Sequence by sequence: each has its own number of keys. Not recorded for a backward pass. */
function attendCached(tape: Tape, q: Tensor, k: Tensor, v: Tensor, sequences: readonly CachedSequence[], l: number, dims: HeadDims): Tensor {
  const { engine } = tape;
  const out = tape.alloc(q.shape);
  let row = 0;
  for (const { cache, length } of sequences) {
    const rows = (t: Tensor) => view(t, [length, t.cols], row * t.cols);
    const [keys, values] = cache.layers[l] as [Tensor, Tensor];
    for (const [kept, added] of [[keys, rows(k)], [values, rows(v)]] as const) engine.copy(view(kept, added.shape, cache.length * kept.cols), added);
    const y = attentionOp(tape, rows(q), keys, values, { ...dims, batch: 1, queries: length, keys: cache.length + length, keyStride: cache.capacity });
    engine.copy(rows(out), y);
    tape.arena.release(y);
    row += length;
  }
  return out;
}
