import type { Tape } from "../autograd/tape.js";
import { activate, add, causalConv, linear, linearAttention, mul, rmsNorm, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
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

/** The state is the last kernel - 1 inputs of the convolution, and a matrix [keyDim, valueDim] per head. */
export const deltaNet: Mixer = {
  parameters: deltaNetParameters,
  state: ({ mixers }, l) => {
    const layer = mixers[l] as DeltaNetConfig;
    return [[layer.kernel - 1, mixedWidth(layer)], [layer.heads, layer.keyDim, layer.valueDim]];
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
  const { get, weight } = parameters.below(`layers.${l}.attention.delta.`);

  // decay = exp(-exp(logRate) * softplus(step))
  const step = unary(tape, "softplus", add(tape, linear(tape, x, weight("step")), get("stepBias")));
  const decay = unary(tape, "exp", mul(tape, step, unary(tape, "neg", unary(tape, "exp", get("logRate")))));
  const beta = unary(tape, "sigmoid", linear(tape, x, weight("beta")));
  const mixed = overSequences(tape, sequences, l, 0, [linear(tape, x, weight("qkv"))], ([y], past) => causalConv(tape, y as Tensor, get("kernel"), undefined, past));
  const qkv = activate(tape, mixed, config.activation);
  const dims = { heads, keyHeads, keyDim, valueDim, scale: 1 / Math.sqrt(keyDim), normEps: keyNormEps };
  const y = overSequences(tape, sequences, l, 1, [qkv, decay, beta], ([m, d, b], past) => linearAttention(tape, m as Tensor, d as Tensor, b, dims, past));
  const gate = activate(tape, linear(tape, x, weight("gate")), "silu");
  return linear(tape, mul(tape, rmsNorm(tape, y, get("norm"), config.normEps), gate), weight("out"));
}
