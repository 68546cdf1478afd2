import { expect } from "vitest";
import type { Chunk, GenerateOptions } from "../src/generate/generate.js";
import { Model } from "../src/generate/model.js";
import type { MoeOptions } from "../src/model/presets.js";
import { gatherColumns, linear, softmax } from "../src/ops/index.js";
import { defineRouter } from "../src/routing/define.js";
import { byteTokenizer } from "../src/tokenizer/bytes.js";

/** A model small enough to generate from many times. */
export const make = (moe: boolean | Partial<MoeOptions>) => {
  const model = Model.create({ vocab: 256, layers: 2, width: 32, heads: 4, kvHeads: 2, context: 64, moe: moe === false ? false : { experts: 4, active: 2, ...(moe === true ? {} : moe) }, seed: 5, tokenizer: byteTokenizer() });
  // Default weights route and predict almost uniformly; larger ones decide.
  for (const { tensor, init } of model.parameters.list) if ("std" in init) model.engine.scale(tensor, tensor, 8);
  return model;
};

/** Chooses by the place in the pass. */
export const byRow = defineRouter("by row", ({ tape, x, parameters: { weight } }) => {
  const logits = linear(tape, x, weight);
  const experts = tape.constant([x.rows, 2], Int32Array.from({ length: 2 * x.rows }, (_, i) => i % 4), "i32");
  return { logits, experts, weights: softmax(tape, gatherColumns(tape, logits, experts)) };
});

export const collect = async (chunks: AsyncIterable<Chunk>) => {
  const all: Chunk[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
};

export const usage = (message: RegExp) => expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE", message: expect.stringMatching(message) });

/** Answers of lower-case letters only. */
export const letters = { temperature: 0, logitBias: Object.fromEntries(Array.from({ length: 256 }, (_, id) => [id, id >= 97 && id < 123 ? 0 : -Infinity])) };

/** Every way of choosing tokens at once. */
export const sampled: GenerateOptions = {
  maxTokens: 20, temperature: 1.1, topK: 60, topP: 0.97, minP: 0.01, repetitionPenalty: 1.2, presencePenalty: 0.1, frequencyPenalty: 0.2, logitBias: { 65: 2, 0: -Infinity }, seed: 9, trace: true,
};
