import type { Tape } from "../autograd/tape.js";
import { causalConv, linear, mul } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import { overSequences } from "./recurrent.js";
import type { Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/** LFM2's gated short convolution (Liquid AI 2025, arXiv 2511.23404): c * conv(b * u), with b, c and u projections of the layer's input. */
export interface ShortConvConfig {
  kind: "shortConv";
  /** Tokens that a channel sees, its own included. */
  kernel: number;
  bias: boolean;
}

/** The state is the last kernel - 1 inputs of the convolution. */
export const shortConv: Mixer = {
  parameters: shortConvParameters,
  state: (config, l) => [[layerOf(config, l).kernel - 1, config.width]],
  rewinds: false,
  forward: convolve,
};

const layerOf = ({ mixers }: ModelConfig, l: number) => mixers[l] as ShortConvConfig;

function shortConvParameters(config: ModelConfig, l: number): MixerParameter[] {
  const { width: D } = config;
  const { kernel, bias } = layerOf(config, l);
  return [
    { name: "conv.in", shape: [3 * D, D], init: "normal", bias },
    { name: "conv.kernel", shape: [D, kernel], init: "normal", bias },
    { name: "conv.out", shape: [D, D], init: "residual", bias },
  ];
}

function convolve(tape: Tape, { config, parameters }: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor {
  const D = config.width;
  const { get, find, weight, rows } = parameters.below(`layers.${l}.attention.conv.`);
  const bias = find("inBias");
  const part = (i: number) => linear(tape, x, rows("in", i * D, D), bias && rows("inBias", i * D, D));
  const [b, c, u] = [part(0), part(1), part(2)];
  const y = overSequences(tape, sequences, l, 0, [mul(tape, b, u)], ([v], past) => causalConv(tape, v as Tensor, get("kernel"), find("kernelBias"), past));
  return linear(tape, mul(tape, c, y), weight("out"), find("outBias"));
}
