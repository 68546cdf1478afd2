import type { Tape } from "../autograd/tape.js";
import type { Engine } from "../engine/engine.js";
import { generate } from "../generate/generate.js";
import { isSparse, stackNames, type StackName } from "../model/encoder-decoder/config.js";
import type { EncoderDecoderModel } from "../model/encoder-decoder/model.js";
import { sparseBlock } from "../model/encoder-decoder/stacks.js";
import { LanguageModel } from "../model/language-model.js";
import { mixerOf } from "../model/mixer.js";
import { forward, logits, moeParameters } from "../model/transformer.js";
import { type MoeConfig, moeLayer, type MoeParameters } from "../moe/layer.js";
import type { Routing } from "../routing/types.js";
import type { Tensor } from "../tensor/tensor.js";

/** Number of a layer; of an encoder-decoder "encoder.1" or "decoder.3". */
export type LayerName = number | string;

/** What the names of a layer's tensors begin with in a golden. */
export const layerPrefix = (layer: LayerName): string => (typeof layer === "number" ? `layers.${layer}` : layer);

/** Token ids that a model is run on: sequences of one length, and of an encoder-decoder what its decoder is given. */
export interface Inputs {
  ids: readonly (readonly number[])[];
  decoderIds?: readonly (readonly number[])[] | undefined;
}

/** A model of either kind as `verify` and `recordGolden` see it. */
export interface Subject {
  engine: Engine;
  vocab: number;
  width: number;
  /** Longest sequence; Infinity: any. */
  context: number;
  moe: MoeConfig | undefined;
  sparseLayers: readonly LayerName[];
  /** Whether it has a decoder of its own, which starts with this token. */
  decoderStart?: number | undefined;
  /** Errors of one token reach all later ones through the state of a layer. */
  recurrent: boolean;
  /** Logits [tokens, V] of all sequences, and the decision of every sparse layer. */
  forward(tape: Tape, inputs: Inputs): { logits: Tensor; routings: ReadonlyMap<LayerName, Routing> };
  /**
   * One sparse block alone on x [T, D], the rows of all sequences: its decision, and its output; where a shared expert is added to it, which
   * some implementations do outside of the block, also the output without.
   */
  block(tape: Tape, layer: LayerName, x: Tensor, inputs: Inputs): { routing: Routing; outs: Tensor[] };
  /** The most likely token, again and again, with a cache. It ends at the end-of-text token of a model with a tokenizer. */
  greedy(prompt: readonly number[], count: number): Promise<number[]>;
}

const tokenIds = (tape: Tape, rows: Inputs["ids"]): Tensor => tape.constant([rows.flat().length], rows.flat(), "i32");

export const subjectOf = (model: LanguageModel | EncoderDecoderModel): Subject => (model instanceof LanguageModel ? languageModelSubject(model) : encoderDecoderSubject(model));

function languageModelSubject(model: LanguageModel): Subject {
  const { engine, config, parameters } = model;
  const { vocab, width, context, moe, sparseLayers } = config;
  return {
    engine,
    vocab,
    width,
    context,
    moe,
    sparseLayers,
    recurrent: config.mixers.some((_, l) => !mixerOf(config, l).rewinds),
    forward(tape, { ids }) {
      const { hidden, routings } = forward(tape, model, { ids: tokenIds(tape, ids), batch: ids.length });
      return { logits: logits(tape, model, hidden), routings: new Map(routings.map((routing, i) => [sparseLayers[i] as number, routing])) };
    },
    block(tape, layer, x, { ids }) {
      const own = moeParameters(parameters, layer as number);
      const run = (p: MoeParameters) => moeLayer(tape, x, p, moe as MoeConfig, tokenIds(tape, ids));
      const { routing, out } = run(own);
      return { routing, outs: moe?.shared?.combine === "add" ? [out, run({ ...own, shared: undefined }).out] : [out] };
    },
    async greedy(prompt, count) {
      const answer: number[] = [];
      for await (const { token } of generate(model, Int32Array.from(prompt), { temperature: 0, maxTokens: count, precision: "f32" })) answer.push(token);
      return answer;
    },
  };
}

function encoderDecoderSubject(model: EncoderDecoderModel): Subject {
  const { engine, config } = model;
  const { vocab, width, moe } = config;
  const layersOf = (stack: StackName) => Array.from({ length: config[stack].layers }, (_, l) => l).flatMap((l) => (isSparse(config[stack], l) ? [`${stack}.${l}`] : []));
  return {
    engine,
    vocab,
    width,
    context: Infinity,
    moe,
    sparseLayers: stackNames.flatMap(layersOf),
    decoderStart: config.startId,
    recurrent: false,
    forward(tape, { ids, decoderIds = [] }) {
      const output = model.forward(tape, tokenIds(tape, ids), tokenIds(tape, decoderIds), ids.length);
      return { logits: output.logits, routings: new Map(stackNames.flatMap((stack) => layersOf(stack).map((layer, i): [LayerName, Routing] => [layer, output[stack][i] as Routing]))) };
    },
    block(tape, layer, x, { ids }) {
      const [stack, l] = String(layer).split(".") as [StackName, string];
      const { routing, out } = sparseBlock(tape, model, stack, Number(l), x, Array.from(ids, () => new Int32Array(moe.experts)));
      return { routing, outs: [out] };
    },
    greedy: async (prompt, count) => [...model.generate(prompt, { maxTokens: count })],
  };
}
