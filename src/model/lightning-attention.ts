import type { Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { activate, linear, linearAttention, mul, rmsNorm, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import { attendByTables, type BlockedSequence } from "./decay-tables.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import { overSequences } from "./recurrent.js";
import type { Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/** Lightning attention (Qin et al. 2024, arXiv 2401.04658) as in MiniMax-Text-01 (arXiv 2501.08313): linear, each head with a fixed decay. */
export interface LightningConfig {
  kind: "lightning";
  /** The checkpoint has other decays than the published ones, in tables for blocks of so many tokens. They need not be causal. */
  tables?: number | undefined;
}

/** Of the norm over all heads. */
const normEps = 1e-6;

/** The state is a matrix [headDim, headDim] per head. */
export const lightningAttention: Mixer = {
  parameters: lightningParameters,
  state: (config) => [[config.heads, config.headDim, config.headDim]],
  rewinds: false,
  holds: (config, l) => ({ block: layerOf(config, l).tables }),
  forward: attendLightning,
};

const layerOf = ({ mixers }: ModelConfig, l: number) => mixers[l] as LightningConfig;

function lightningParameters(config: ModelConfig, l: number): MixerParameter[] {
  const { width: D, heads, headDim } = config;
  const { tables: block } = layerOf(config, l);
  const wide = heads * headDim;
  const tables: MixerParameter[] =
    block === undefined
      ? []
      : [
          { name: "lightning.slopes", shape: [heads], init: "one" },
          { name: "lightning.ofQuery", shape: [heads, block], init: "one" },
          { name: "lightning.ofKey", shape: [heads, block], init: "one" },
          { name: "lightning.within", shape: [heads * block, block], init: "one" },
        ];
  return [
    ...tables,
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
  const { get, weight } = parameters.below(`layers.${l}.attention.lightning.`);
  const qkv = activate(tape, linear(tape, x, weight("qkv")), config.activation);
  const y = mix(tape, config, l, qkv, get, sequences);
  const gate = unary(tape, "sigmoid", linear(tape, x, weight("gate")));
  return linear(tape, mul(tape, rmsNorm(tape, y, get("norm"), normEps), gate), weight("out"));
}

function mix(tape: Tape, config: ModelConfig, l: number, qkv: Tensor, get: (name: string) => Tensor, sequences: Sequences): Tensor {
  const { heads, headDim, layers } = config;
  const { tables: block } = layerOf(config, l);
  if (block !== undefined) {
    const tables = { slopes: get("slopes"), ofQuery: get("ofQuery"), ofKey: get("ofKey"), within: get("within") };
    return attendByTables(tape, qkv, blockedSequences(sequences, qkv.rows, l, block), tables, { heads, headDim, block });
  }
  const decay = tape.constant([heads], lightningRates(heads, l, layers).map((rate) => Math.exp(-rate)));
  const dims = { heads, keyHeads: heads, keyDim: headDim, valueDim: headDim, scale: 1 };
  return overSequences(tape, sequences, l, 0, [qkv], ([m], past) => linearAttention(tape, m as Tensor, decay, undefined, dims, past));
}

/** What a token gives here depends on the others of its block: a sequence goes on from a whole one. */
function blockedSequences({ batch }: Sequences, tokens: number, l: number, block: number): BlockedSequence[] {
  if (typeof batch === "number") return Array.from({ length: batch }, () => ({ length: tokens / batch }));
  return batch.map(({ cache, length }) => {
    check(cache.length % block === 0, "ERR_SWITCHYARD_USAGE", () => `lightning attention: with tables of decays a sequence goes on from a whole block of ${block} tokens, but ${cache.length} tokens are in its cache; call expect(${cache.length + length}), and run again what it forgets`);
    return { length, state: cache.layers[l]?.[0] };
  });
}
