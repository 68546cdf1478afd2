import type { Tape } from "../autograd/tape.js";
import { activate, causalConv, linear, mul, rmsNorm, selectiveScan, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import { overSequences } from "./recurrent.js";
import type { Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/** Mamba (Gu and Dao 2023, arXiv 2312.00752) with Jamba's norms of step, input and output weights (Lieber et al. 2024, arXiv 2403.19887). */
export interface MambaConfig {
  kind: "mamba";
  channels: number;
  /** States of each channel. */
  states: number;
  /** Length of the vector that the channels' time steps come from. */
  rank: number;
  /** Tokens that the convolution sees. */
  kernel: number;
  kernelBias: boolean;
  /** The projections into and out of the layer have biases. */
  bias: boolean;
}

/** The state is the last kernel - 1 inputs of the convolution, and [states, channels]. */
export const mamba: Mixer = {
  parameters: mambaParameters,
  state: ({ mixers }, l) => {
    const { channels, states, kernel } = mixers[l] as MambaConfig;
    return [[kernel - 1, channels], [states, channels]];
  },
  rewinds: false,
  forward: scan,
};

function mambaParameters({ width: D, mixers }: ModelConfig, l: number): MixerParameter[] {
  const { channels: C, states: N, rank, kernel, kernelBias, bias } = mixers[l] as MambaConfig;
  return [
    { name: "mamba.in", shape: [2 * C, D], init: "normal", bias },
    { name: "mamba.kernel", shape: [C, kernel], init: "normal", bias: kernelBias },
    { name: "mamba.select", shape: [rank + 2 * N, C], init: "normal" },
    { name: "mamba.stepNorm", shape: [rank], init: "one" },
    { name: "mamba.inputNorm", shape: [N], init: "one" },
    { name: "mamba.outputNorm", shape: [N], init: "one" },
    { name: "mamba.step", shape: [C, rank], init: "normal" },
    { name: "mamba.stepBias", shape: [C], init: "zero" },
    { name: "mamba.logRate", shape: [C, N], init: "zero" },
    { name: "mamba.skip", shape: [C], init: "one" },
    { name: "mamba.out", shape: [D, C], init: "residual", bias },
  ];
}

function scan(tape: Tape, { config, parameters }: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor {
  const { channels: C, states: N, rank } = config.mixers[l] as MambaConfig;
  const { get, find, weight, rows } = parameters.below(`layers.${l}.attention.mamba.`);
  const bias = find("inBias");
  const project = (first: number) => linear(tape, x, rows("in", first, C), bias && rows("inBias", first, C));
  const filtered = overSequences(tape, sequences, l, 0, [project(0)], ([y], past) => causalConv(tape, y as Tensor, get("kernel"), find("kernelBias"), past));
  const u = activate(tape, filtered, config.activation);
  const select = (name: string, first: number, count: number) => rmsNorm(tape, linear(tape, u, rows("select", first, count)), get(`${name}Norm`), config.normEps);
  const delta = unary(tape, "softplus", linear(tape, select("step", 0, rank), weight("step"), get("stepBias")));
  const [b, c] = [select("input", rank, N), select("output", rank + N, N)];
  const fixed = { a: unary(tape, "neg", unary(tape, "exp", get("logRate"))), d: get("skip") };
  const y = overSequences(tape, sequences, l, 1, [u, delta, b, c], ([v, step, input, output], past) =>
    selectiveScan(tape, v as Tensor, { delta: step as Tensor, b: input as Tensor, c: output as Tensor, ...fixed }, past),
  );
  return linear(tape, mul(tape, y, activate(tape, project(C), "silu")), weight("out"), find("outBias"));
}
