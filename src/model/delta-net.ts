import type { Tape } from "../autograd/tape.js";
import { activate, causalConv, deltaDecays, gatherRows, linear, linearAttention, mul, reshape, rmsNorm, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import type { Columns } from "./families/names.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import { overSequences } from "./recurrent.js";
import type { Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/** Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464) as in Qwen3-Next: a short convolution before, a gated norm per head behind it. */
export interface DeltaNetConfig {
  kind: "deltaNet";
  /** Of values, a multiple of those of queries and keys. */
  heads: number;
  keyHeads: number;
  keyDim: number;
  valueDim: number;
  /** Tokens that the convolution sees. */
  kernel: number;
}

/** Added to the sum of squares of queries and keys. */
const keyNormEps = 1e-6;

/**
 * Tokens over which the logarithms of decays are summed, as flash-linear-attention and transformers do in training and in prompts. What
 * rounding these sums to f32 does to the decays outweighs all other rounding together.
 */
const chunk = 64;

/** The state is the last kernel - 1 inputs of the convolution, a matrix [keyDim, valueDim] per head, and the sums of a chunk's decays. */
export const deltaNet: Mixer = {
  parameters: deltaNetParameters,
  state: ({ mixers }, l) => {
    const layer = mixers[l] as DeltaNetConfig;
    return [[layer.kernel - 1, mixedWidth(layer)], [layer.heads, layer.keyDim, layer.valueDim], [3, layer.heads]];
  },
  rewinds: false,
  forward: attendDelta,
};

/** Columns of queries, keys and values together. */
const mixedWidth = ({ heads, keyHeads, keyDim, valueDim }: DeltaNetConfig) => 2 * keyHeads * keyDim + heads * valueDim;

function deltaNetParameters({ width: D, mixers }: ModelConfig, l: number): MixerParameter[] {
  const layer = mixers[l] as DeltaNetConfig;
  const { heads, valueDim, kernel } = layer;
  return [
    { name: "delta.qkv", shape: [mixedWidth(layer), D], init: "normal" },
    { name: "delta.gate", shape: [heads * valueDim, D], init: "normal" },
    { name: "delta.beta", shape: [heads, D], init: "normal" },
    { name: "delta.step", shape: [heads, D], init: "normal" },
    { name: "delta.stepBias", shape: [heads], init: "one" },
    { name: "delta.logRate", shape: [heads], init: "zero" },
    { name: "delta.kernel", shape: [mixedWidth(layer), kernel], init: "normal" },
    { name: "delta.norm", shape: [valueDim], init: "one" },
    { name: "delta.out", shape: [D, heads * valueDim], init: "residual" },
  ];
}

function attendDelta(tape: Tape, { config, parameters }: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor {
  const { heads, keyHeads, keyDim, valueDim } = config.mixers[l] as DeltaNetConfig;
  const { get, weight, columns } = parameters.below(`layers.${l}.attention.delta.`);

  // Where a query hardly fits a key, or a key what is known of it, products cancel and the norm behind magnifies what is left: all that goes into
  // them is summed in f64 if weights are floats. Of the steps, which only decays come from, the rounding of those outweighs the rest.
  const project = (name: string): Tensor => {
    const w = weight(name);
    return linear(tape, x, w, undefined, [w].flat().every(({ dtype }) => dtype === "f32") ? "f64" : tape.precision);
  };
  const decay = overSequences(tape, sequences, l, 2, [linear(tape, x, weight("step"))], ([step], past) =>
    deltaDecays(tape, step as Tensor, get("stepBias"), get("logRate"), chunk, past));
  const beta = unary(tape, "sigmoid", project("beta"));
  const mixed = overSequences(tape, sequences, l, 0, [project("qkv")], ([y], past) => causalConv(tape, y as Tensor, get("kernel"), undefined, past));
  const qkv = activate(tape, mixed, config.activation);
  const dims = { heads, keyHeads, keyDim, valueDim, scale: 1 / Math.sqrt(keyDim), normEps: keyNormEps };
  const y = overSequences(tape, sequences, l, 1, [qkv, decay, beta], ([m, d, b], past) => linearAttention(tape, m as Tensor, d as Tensor, b, dims, past));
  const gate = activate(tape, project("gate"), "silu");
  const gated = mul(tape, rmsNorm(tape, y, get("norm"), config.normEps), gate);
  const order = columns("out");
  return linear(tape, order === undefined ? gated : headsInOrder(tape, gated, order, sequences), weight("out"));
}

/** The heads of each row in the order that the columns of a matrix have in its file, the same in all layers. */
function headsInOrder(tape: Tape, x: Tensor, { size, at }: Columns, sequences: Sequences): Tensor {
  const heads = x.cols / size;
  const places = () => Int32Array.from({ length: x.rows * heads }, (_, i) => i - (i % heads) + at(i % heads));
  const index = sequences.memo("order of value heads", () => tape.constant([x.rows * heads], places(), "i32"));
  return reshape(tape, gatherRows(tape, reshape(tape, x, [x.rows * heads, size]), index), x.shape);
}
