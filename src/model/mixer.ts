import type { Tape } from "../autograd/tape.js";
import type { Tensor } from "../tensor/tensor.js";
import { attention } from "./attention.js";
import type { MixerConfig, ModelConfig } from "./config.js";
import { deltaNet } from "./delta-net.js";
import { latentAttention } from "./latent-attention.js";
import { lightningAttention } from "./lightning-attention.js";
import { mamba } from "./mamba.js";
import type { Init } from "./parameter-specs.js";
import type { Sequences } from "./sequences.js";
import { shortConv } from "./short-conv.js";
import type { TransformerParts } from "./transformer.js";

/** A parameter of a layer's mixer; its name goes below "layers.N.attention.". */
export interface MixerParameter {
  name: string;
  shape: readonly number[];
  init: Init;
  /** NAMEBias follows, zeros: one for each row or, of a vector, each element. */
  bias?: boolean | undefined;
  /** Products take its matrices one by one, as GGUF has them; of files that have it otherwise floats are made when it is loaded. */
  apart?: true;
}

/** When the tensors that a layer keeps of a token stay right although tokens follow. */
interface Holds {
  /** Only in sequences of at most so many tokens. */
  upTo?: number | undefined;
  /** Only once the token's block of so many is complete; a state that does not rewind is that after the last complete block. */
  block?: number | undefined;
}

/** One kind of sequence mixer. */
export interface Mixer {
  /** The parameters of layer `l`, in the order of the forward pass. */
  parameters(config: ModelConfig, l: number): MixerParameter[];
  /** Shapes of the tensors that layer `l` keeps in the cache of one sequence of at most `capacity` tokens. They start as zeros. */
  state(config: ModelConfig, l: number, capacity: number): readonly (readonly number[])[];
  /** So many tensors of the state, the first ones, are keys and values of `attention`, which may be kept as f16; default 0. */
  keys?: number;
  /** Whether the state can go back to fewer tokens: true if it has rows for each token, false if it is recurrent. */
  rewinds: boolean;
  /** For a mixer whose results for a token depend on later tokens. Default: what it keeps always stays right. */
  holds?(config: ModelConfig, l: number): Holds;
  /** Rows [T, D] of normed inputs to rows [T, D] for the residual stream. With caches it reads and updates `sequences.batch[i].cache.layers[l]`. */
  forward(tape: Tape, parts: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor;
}

const mixers: Readonly<Record<MixerConfig["kind"], Mixer>> = { attention, deltaNet, latent: latentAttention, lightning: lightningAttention, mamba, shortConv };

/** The mixer of layer `l`. */
export const mixerOf = (config: ModelConfig, l: number): Mixer => mixers[(config.mixers[l] as MixerConfig).kind];
