import type { Tape } from "../autograd/tape.js";
import { glu, linear, linearAttention, mul, rmsNorm, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import { overSequences } from "./recurrent.js";
import type { Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/** Lightning attention (Qin et al. 2024, arXiv 2401.04658) as in MiniMax-Text-01 (arXiv 2501.08313): linear, each head with a fixed decay. */
export interface LightningConfig {
  kind: "lightning";
}

/** Of the norm over all heads. */
const normEps = 1e-6;

/** The state is a matrix [headDim, headDim] per head. */
export const lightningAttention: Mixer = {
  parameters: lightningParameters,
  state: ({ heads, headDim }) => [[heads, headDim, headDim]],
  rewinds: false,
  forward: attendLightning,
};

function lightningParameters({ width: D, heads, headDim }: ModelConfig): MixerParameter[] {
  const wide = heads * headDim;
  return [
    { name: "lightning.qkv", shape: [3 * wide, D], init: "normal" },
    { name: "lightning.norm", shape: [wide], init: "one" },
    { name: "lightning.gate", shape: [wide, D], init: "normal" },
    { name: "lightning.out", shape: [D, wide], init: "residual" },
  ];
}

/** What a token's share in the state of each head is divided by, in logarithms, from one token to the next; deeper layers forget less. */
export function lightningRates(heads: number, l: number, layers: number): number[] {
  const depth = 1 - l / (layers - 1 + 1e-5) + 1e-5;
  return Array.from({ length: heads }, (_, h) => 2 ** ((-8 * (h + 1)) / heads) * depth);
}

function attendLightning(tape: Tape, { config, parameters }: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor {
  const { heads, headDim, layers } = config;
  const get = (name: string) => parameters.get(`layers.${l}.attention.lightning.${name}`);
  const weight = (name: string) => parameters.weight(`layers.${l}.attention.lightning.${name}`);
  const qkv = glu(tape, linear(tape, x, weight("qkv")), { activation: config.activation, gated: false });
  const decay = tape.constant([heads], lightningRates(heads, l, layers).map((rate) => Math.exp(-rate)));
  const dims = { heads, keyHeads: heads, keyDim: headDim, valueDim: headDim, scale: 1 };
  const y = overSequences(tape, sequences, l, 0, [qkv], ([m], past) => linearAttention(tape, m as Tensor, decay, undefined, dims, past));
  const gate = unary(tape, "sigmoid", linear(tape, x, weight("gate")));
  return linear(tape, mul(tape, rmsNorm(tape, y, get("norm"), normEps), gate), weight("out"));
}
