import type { GgufValue } from "../formats/gguf/metadata.js";
import { ggufBytes, type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { type GgufTensorToWrite, writeGguf } from "../formats/gguf/writer.js";
import { blockShaper, randomBytes, randomTypes } from "../quant/random-blocks.js";
import { byteCharacters } from "../tokenizer/byte-pair.js";
import type { ModelConfig } from "./config.js";
import { ggufPieces } from "./families/gguf-names.js";
import { writeGgufConfig } from "./families/gguf.js";
import { describeFile } from "./gguf-file.js";
import { type ParameterSpec, parameterSpecs } from "./parameters.js";
import { storedType } from "./stored-types.js";

export type RandomType = (typeof randomTypes)[number];

/** Bytes made at a time. */
const chunkBytes = 2 ** 22;

/**
 * Writes a model of random weights as GGUF, as fast as the disk takes it and never much of it in memory: what a benchmark needs of a
 * model that is too large to train. The same config, type and seed give the same file. Throws ERR_SWITCHYARD_UNSUPPORTED, ERR_SWITCHYARD_IO.
 */
export async function writeRandomGguf(path: string, config: ModelConfig, type: RandomType, seed: number): Promise<void> {
  const { metadata, tensors } = randomGguf(config, type, seed);
  await writeGguf(path, metadata, tensors);
}

/** What such a file holds. The matrices are random blocks of `type`, with the deviation that a new model's have; vectors have their initial values. */
export function randomGguf(config: ModelConfig, type: RandomType, seed: number): { metadata: Map<string, GgufValue>; tensors: GgufTensorToWrite[] } {
  const { metadata, architecture } = writeGgufConfig(config);
  const tensors = parameterSpecs(config)
    .flatMap((spec) => ggufPieces(spec, config, architecture).map((piece) => ({ spec, piece })))
    .map(({ spec, piece }, i): GgufTensorToWrite => {
      const { name, shape } = piece;
      const stored = storedType(type, piece, spec);
      return { name, shape, type: stored, chunks: () => randomTensor(stored, shape, spec.init, seed, i) };
    });
  return { metadata: new Map([...metadata, ...describeFile(type), ...byteVocabulary(config.vocab)]), tensors };
}

function* randomTensor(type: GgufType, shape: readonly number[], init: ParameterSpec["init"], seed: number, index: number): Generator<Uint8Array> {
  const size = ggufBytes(type, shape) as number;
  if ("constant" in init) {
    yield new Uint8Array(new Float32Array(size / 4).fill(init.constant).buffer);
    return;
  }
  const step = Math.floor(chunkBytes / ggufTypes[type].bytes) * ggufTypes[type].bytes;
  const random = randomBytes(seed, index);
  const shapeBlocks = blockShaper(type, init.std);
  for (let at = 0; at < size; at += step) {
    const bytes = random(Math.min(step, size - at));
    shapeBlocks(bytes);
    yield bytes;
  }
}

/** A vocabulary of the 256 bytes, an end of text, and unused tokens, as many as the embedding table has rows. */
export function byteVocabulary(size: number): [string, GgufValue][] {
  const tokens = [...byteCharacters, "<|endoftext|>", ...Array.from({ length: Math.max(0, size - 257) }, (_, i) => `<|unused ${i}|>`)].slice(0, size);
  const [normal, control, unused] = [1, 3, 5];
  const types = Int32Array.from(tokens, (_, id) => (id < 256 ? normal : id === 256 ? control : unused));
  return [
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: "gpt-2" }],
    ["tokenizer.ggml.tokens", { type: "array", of: "string", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "array", of: "i32", value: types }],
    ["tokenizer.ggml.merges", { type: "array", of: "string", value: [] }],
    ...(size > 256 ? [["tokenizer.ggml.eos_token_id", { type: "u32", value: 256 }] satisfies [string, GgufValue]] : []),
  ];
}
