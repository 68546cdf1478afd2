import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check } from "../errors.js";
import { writeFolderAtomically } from "../formats/folder.js";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors-writer.js";
import { Random } from "../tensor/random.js";
import { type Inputs, layerPrefix, type Subject } from "./subject.js";

/** Tokens of the first row that the greedy run continues, and how many it adds, at most. */
const greedyPrompt = 10;
const greedyTokens = 24;

/** Two sequences of 40 random token ids, shorter where the context is, and 12 each for a decoder. */
export function randomInputs({ vocab, context, decoderStart }: Subject, seed: number): Inputs {
  const random = new Random(seed);
  const rows = (length: number) => Array.from({ length: 2 }, () => Array.from({ length }, () => random.below(vocab)));
  return { ids: rows(Math.min(40, context)), ...(decoderStart === undefined ? {} : { decoderIds: rows(12) }) };
}

/**
 * Writes what a model computes as a golden: golden.json and golden.safetensors, in one step. Logits and weights are F32, experts I64, in
 * the order of choice. Throws ERR_SWITCHYARD_USAGE for a folder that exists and for ids that are no rows of one length in the vocabulary, ERR_SWITCHYARD_IO.
 */
export async function recordGolden(model: Subject, folder: string, inputs: Inputs): Promise<void> {
  const { engine, vocab, context, decoderStart } = model;
  const { ids, decoderIds } = inputs;
  check(!existsSync(folder), "ERR_SWITCHYARD_USAGE", () => `record: ${folder} exists; name another folder, or move it away`);
  checkRows(ids, vocab);
  check((decoderIds === undefined) === (decoderStart === undefined), "ERR_SWITCHYARD_USAGE", () => "record: an encoder-decoder needs ids for its decoder, and only that");
  if (decoderIds !== undefined) checkRows(decoderIds, vocab);
  using arena = new Arena(engine);
  const { logits, routings } = model.forward(new Tape(engine, arena, { precision: "f32" }), inputs);
  const answered = decoderIds ?? ids;
  const tensors = [
    f32("logits", [answered.length, answered[0]?.length ?? 0, vocab], engine.read(logits)),
    ...[...routings].flatMap(([layer, routing]) => {
      const at = (name: string) => `${layerPrefix(layer)}.${name}`;
      return [
        f32(at("router_logits"), routing.logits.shape, engine.read(routing.logits)),
        f32(at("weights"), routing.weights.shape, engine.read(routing.weights)),
        i64(at("experts"), routing.experts.shape, engine.read(routing.experts)),
      ];
    }),
  ];
  const prompt = (ids[0] ?? []).slice(0, greedyPrompt);
  const count = Math.min(greedyTokens, context - prompt.length);
  const greedy = count > 0 ? { greedy_prompt_ids: prompt, greedy_ids: await model.greedy(prompt, count) } : {};
  const json = { source: `switchyard, ${engine.name} engine`, input_ids: ids, decoder_input_ids: decoderIds, ...greedy };
  await writeFolderAtomically(folder, async (temporary) => {
    await writeFile(join(temporary, "golden.json"), `${JSON.stringify(json)}\n`);
    await writeSafetensors(join(temporary, "golden.safetensors"), tensors);
  });
}

function checkRows(rows: Inputs["ids"], vocab: number): void {
  const lengths = rows.map((row) => row.length);
  check(lengths[0] !== undefined && lengths[0] > 0 && lengths.every((n) => n === lengths[0]), "ERR_SWITCHYARD_USAGE", () => `record: expected rows of token ids of one length, got ${lengths.join(", ") || "none"}`);
  const unknown = rows.flat().find((id) => !Number.isInteger(id) || id < 0 || id >= vocab);
  check(unknown === undefined, "ERR_SWITCHYARD_USAGE", () => `record: expected token ids from 0 to ${vocab - 1}, got ${unknown}`);
}

const f32 = (name: string, shape: readonly number[], values: ArrayLike<number>): TensorToWrite => ({ name, dtype: "F32", shape, chunks: () => [new Uint8Array(Float32Array.from(values).buffer)] });

const i64 = (name: string, shape: readonly number[], values: ArrayLike<number>): TensorToWrite => ({
  name,
  dtype: "I64",
  shape,
  chunks: () => [new Uint8Array(BigInt64Array.from(Array.from(values), BigInt).buffer)],
});
