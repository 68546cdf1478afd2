import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check } from "../errors.js";
import { writeFolderAtomically } from "../formats/folder.js";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors-writer.js";
import { generate } from "../generate/generate.js";
import type { LanguageModel } from "../model/language-model.js";
import { forward, logits } from "../model/transformer.js";
import { Random } from "../tensor/random.js";

/** Tokens of the first row that the greedy run continues, and how many it adds, at most. */
const greedyPrompt = 10;
const greedyTokens = 24;

/** Two sequences of 40 random token ids, shorter where the context is. */
export function randomIds({ config: { vocab, context } }: LanguageModel, seed: number): number[][] {
  const random = new Random(seed);
  return Array.from({ length: 2 }, () => Array.from({ length: Math.min(40, context) }, () => random.below(vocab)));
}

/**
 * Writes what a model computes for ids [B][T] as a golden: golden.json and golden.safetensors, in one step. Logits and weights are F32,
 * experts I64, in the order of choice. Throws ERR_SWITCHYARD_USAGE for ids that are no rows of one length in the vocabulary, ERR_SWITCHYARD_IO.
 */
export async function recordGolden(model: LanguageModel, folder: string, ids: readonly (readonly number[])[]): Promise<void> {
  const { engine, config } = model;
  const [length = 0] = ids.map((row) => row.length);
  check(length > 0 && ids.every((row) => row.length === length), "ERR_SWITCHYARD_USAGE", () => `record: expected rows of token ids of one length, got ${ids.map((row) => row.length).join(", ")}`);
  const unknown = ids.flat().find((id) => !Number.isInteger(id) || id < 0 || id >= config.vocab);
  check(unknown === undefined, "ERR_SWITCHYARD_USAGE", () => `record: expected token ids from 0 to ${config.vocab - 1}, got ${unknown}`);
  using arena = new Arena(engine);
  const tape = new Tape(engine, arena);
  const T = ids.length * length;
  const { hidden, routings } = forward(tape, model, { ids: tape.constant([T], ids.flat(), "i32"), batch: ids.length });
  const tensors = [
    f32("logits", [ids.length, length, config.vocab], engine.read(logits(tape, model, hidden))),
    ...routings.flatMap((routing, i) => {
      const at = (name: string) => `layers.${config.sparseLayers[i]}.${name}`;
      return [
        f32(at("router_logits"), routing.logits.shape, engine.read(routing.logits)),
        f32(at("weights"), routing.weights.shape, engine.read(routing.weights)),
        i64(at("experts"), routing.experts.shape, engine.read(routing.experts)),
      ];
    }),
  ];
  const prompt = (ids[0] as readonly number[]).slice(0, greedyPrompt);
  const count = Math.min(greedyTokens, config.context - prompt.length);
  const json = { source: `switchyard, ${engine.name} engine`, input_ids: ids, ...(count > 0 ? { greedy_prompt_ids: prompt, greedy_ids: await greedyIds(model, prompt, count) } : {}) };
  await writeFolderAtomically(folder, async (temporary) => {
    await writeFile(join(temporary, "golden.json"), `${JSON.stringify(json)}\n`);
    await writeSafetensors(join(temporary, "golden.safetensors"), tensors);
  });
}

/** The most likely continuation, which ends at the end-of-text token of a model with a tokenizer. */
export async function greedyIds(model: LanguageModel, prompt: readonly number[], count: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const { token } of generate(model, Int32Array.from(prompt), { temperature: 0, maxTokens: count })) ids.push(token);
  return ids;
}

const f32 = (name: string, shape: readonly number[], values: ArrayLike<number>): TensorToWrite => ({ name, dtype: "F32", shape, chunks: () => [new Uint8Array(Float32Array.from(values).buffer)] });

const i64 = (name: string, shape: readonly number[], values: ArrayLike<number>): TensorToWrite => ({
  name,
  dtype: "I64",
  shape,
  chunks: () => [new Uint8Array(BigInt64Array.from(Array.from(values), BigInt).buffer)],
});
