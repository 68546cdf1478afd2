import { checkAborted } from "../errors.js";
import type { GgufValue } from "../formats/gguf/metadata.js";
import { ggufBytes, type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { type GgufTensorToWrite, writeGguf } from "../formats/gguf/writer.js";
import { blockShaper, randomBytes, randomTypes } from "../quant/random-blocks.js";
import { checkSeed } from "../tensor/random.js";
import { BytePairTokenizer } from "../tokenizer/byte-pair.js";
import { ggufVocabulary } from "../tokenizer/gguf-writer.js";
import type { ModelConfig } from "./config.js";
import { ggufPieces } from "./families/gguf-names.js";
import { writeGgufConfig } from "./families/gguf.js";
import { describeFile } from "./gguf-file.js";
import { type ParameterSpec, parameterSpecs } from "./parameter-specs.js";
import { storedType } from "./stored-types.js";

export type RandomType = (typeof randomTypes)[number];

/** Bytes made at a time. */
const chunkBytes = 2 ** 22;

/**
 * Writes a model of random weights as GGUF, as fast as the disk takes it and never much of it in memory: what a benchmark needs of a
 * model that is too large to train. The same config, type and seed give the same file. Throws ERR_SWITCHYARD_USAGE for a seed,
 * ERR_SWITCHYARD_UNSUPPORTED, ERR_SWITCHYARD_IO, ERR_SWITCHYARD_ABORTED.
 */
export async function writeRandomGguf(path: string, config: ModelConfig, type: RandomType, seed: number, signal?: AbortSignal): Promise<void> {
  const { metadata, tensors } = randomGguf(config, type, checkSeed(seed), signal);
  await writeGguf(path, metadata, tensors);
}

/** What such a file holds. The matrices are random blocks of `type`, with the deviation that a new model's have; vectors have their initial values. */
export function randomGguf(config: ModelConfig, type: RandomType, seed: number, signal?: AbortSignal): { metadata: Map<string, GgufValue>; tensors: GgufTensorToWrite[] } {
  const { metadata, architecture } = writeGgufConfig(config);
  const tensors = parameterSpecs(config)
    .flatMap((spec) => ggufPieces(spec, config, architecture).map((piece) => ({ spec, piece })))
    .map(({ spec, piece }, i): GgufTensorToWrite => {
      const { name, shape } = piece;
      const stored = storedType(type, piece, spec);
      return { name, shape, type: stored, chunks: () => randomTensor(stored, shape, spec.init, seed, i, signal) };
    });
  return { metadata: new Map([...metadata, ...describeFile(type), ...byteVocabulary(config.vocab)]), tensors };
}

function* randomTensor(type: GgufType, shape: readonly number[], init: ParameterSpec["init"], seed: number, index: number, signal?: AbortSignal): Generator<Uint8Array> {
  const size = ggufBytes(type, shape) as number;
  if ("constant" in init) {
    yield new Uint8Array(new Float32Array(size / 4).fill(init.constant).buffer);
    return;
  }
  const step = Math.floor(chunkBytes / ggufTypes[type].bytes) * ggufTypes[type].bytes;
  const random = randomBytes(seed, index);
  const shapeBlocks = blockShaper(type, init.std);
  for (let at = 0; at < size; at += step) {
    checkAborted(signal, "make-model");
    const bytes = random(Math.min(step, size - at));
    shapeBlocks(bytes);
    yield bytes;
  }
}

/** The 256 bytes as a vocabulary, with an end of text and unused tokens as far as the embedding table has rows. */
export function byteVocabulary(size: number): Map<string, GgufValue> {
  return ggufVocabulary(new BytePairTokenizer([], size > 256 ? "<|endoftext|>" : undefined), size) as Map<string, GgufValue>;
}
