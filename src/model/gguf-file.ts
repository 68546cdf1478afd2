import { statSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { check, SwitchyardError } from "../errors.js";
import type { GgufValue } from "../formats/gguf/metadata.js";
import { type Gguf, openGguf } from "../formats/gguf/open.js";
import type { GgufTensor } from "../formats/gguf/reader.js";
import { ggufFileTypeIds, type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { type GgufTensorToWrite, writeGguf } from "../formats/gguf/writer.js";
import { encodeBlocks, isDecodable } from "../quant/codecs.js";
import { asLanguageModel, type StoredModel } from "./any-model.js";
import type { ModelConfig } from "./config.js";
import { type AnyConfig, isEncoderDecoder } from "./encoder-decoder/config.js";
import { readGgufConfig, writeGgufConfig } from "./families/gguf.js";
import { ggufPieces } from "./families/gguf-names.js";
import type { Piece } from "./families/names.js";
import type { Publication } from "./families/publication.js";
import { type ParameterSource, storedDtype } from "./mapped.js";
import { fromOriginals, originals } from "./originals.js";
import { ownArchitecture, readOwnGguf, writeOwnGguf } from "./own-gguf.js";
import { parameterSource, type PieceSource } from "./parameter-source.js";
import { type ParameterSpec, parameterSpecs } from "./parameter-specs.js";
import { chooseTypes, encodedRows, type EncodingOptions, publishedTensors, type TypeOptions, type WrittenTensor } from "./published.js";
import type { Weights } from "./staged.js";
import { decodeTensor, joined, readPiece, storedRows } from "./stored.js";

/** Whether a path names a GGUF file: by its name, so that what does not exist yet has a format too; but a folder may have any name. */
export const isGguf = (path: string): boolean => /\.gguf$/i.test(path) && !isFolder(path);

/** A path that cannot be looked at is none: whoever opens it says why. */
function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

interface StoredGguf<C extends AnyConfig = AnyConfig> extends StoredModel<C> {
  gguf: Gguf;
}

/**
 * A GGUF file of a model of either kind; `sources` read the weights. Throws
 * ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming file and key or tensor, also for a tensor that this
 * architecture has no use for: leaving it out would compute something else.
 */
export function readGguf(path: string): StoredGguf {
  const gguf = openGguf(path);
  const arch = gguf.metadata.string("general.architecture");
  const { config, family, pieces: piecesOf } = arch === ownArchitecture ? readOwnGguf(gguf) : readArchitecture(gguf);
  const unused = new Set(gguf.tensors.keys());
  unused.delete(ropeFactorsName);
  const sources = new Map<string, ParameterSource>();
  for (const spec of parameterSpecs(config)) {
    const pieces = piecesOf(spec);
    for (const { name } of pieces) unused.delete(name);
    sources.set(spec.name, parameterSource(pieces.map((piece) => pieceSource(gguf, piece, find(gguf, piece, path)))));
  }
  const layers = isEncoderDecoder(config) ? 0 : config.layers;
  const extra = [...unused].find((name) => !isPredictor(name, layers, gguf.metadata.integer(`${arch}.nextn_predict_layers`, 0)));
  check(extra === undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `${path}: tensor ${JSON.stringify(extra)} is not part of a ${family.modelType} model as Switchyard computes it`);
  return { config, family, gguf, sources };
}

function pieceSource({ metadata }: Gguf, piece: Piece, stored: GgufTensor): PieceSource {
  const restore = fromOriginals(metadata, piece);
  const read: PieceSource["read"] =
    restore === undefined
      ? (engine, target) => readPiece(engine, target, piece, decodeTensor(stored))
      : (engine, target) => readPiece(engine, target, { ...piece, elements: undefined }, restore(decodeTensor(stored)));
  const { type, file, begin } = stored;
  const { shape } = piece;
  const dtype = piece.apart === true ? storedDtype(type) : undefined;
  return { read, rows: storedRows(piece, { ...stored, dtype: type }), stack: dtype && { file, dtype, begin, shape }, type };
}

/** The file of a language model. Throws as `readGguf`. */
export const readModelGguf = (path: string): StoredGguf<ModelConfig> => asLanguageModel(readGguf(path), path);

function readArchitecture(gguf: Gguf): Publication & { config: ModelConfig } {
  const { config, family, architecture } = readGgufConfig({ ...gguf, ropeFactors: () => ropeFactors(gguf) });
  return { config, family, pieces: (spec) => ggufPieces(spec, config, architecture, gguf.tensors) };
}

/** A tensor of the layers behind the others that predict further tokens (multi-token prediction), which generation does without. */
function isPredictor(name: string, layers: number, predictors: number): boolean {
  const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1);
  return layer >= layers && layer < layers + predictors;
}

const ropeFactorsName = "rope_freqs.weight";

function ropeFactors({ tensors }: Gguf): number[] | undefined {
  const stored = tensors.get(ropeFactorsName);
  if (stored === undefined) return undefined;
  check(stored.type === "F32" && stored.shape.length === 1, "ERR_SWITCHYARD_UNSUPPORTED", () => `${stored.file}: tensor "${ropeFactorsName}": expected a vector of F32, got ${stored.type} [${stored.shape.join(", ")}]`);
  return [...joined(decodeTensor(stored))];
}

function find({ tensors }: Gguf, { name, shape }: Piece, path: string): GgufTensor {
  const stored = tensors.get(name);
  check(stored !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${path}: tensor "${name}" is missing`);
  check(
    isDeepStrictEqual(significant(stored.shape), significant(shape)),
    "ERR_SWITCHYARD_FORMAT",
    () => `${stored.file}: tensor "${name}": the metadata says [${shape.join(", ")}], the file has [${stored.shape.join(", ")}]`,
  );
  check(isDecodable(stored.type), "ERR_SWITCHYARD_UNSUPPORTED", () => `${stored.file}: tensor "${name}": its type ${stored.type} cannot be read yet`);
  return stored;
}

/** Dimensions of 1 in front mean nothing in GGUF. */
const significant = (shape: readonly number[]): readonly number[] => shape.slice(shape.findIndex((n) => n !== 1));

/** Metadata of a file of mostly `type`. */
export function describeFile(type: GgufType): [string, GgufValue][] {
  const isFloat = ggufTypes[type].elements === 1;
  const entries: [string, number | undefined][] = [["general.file_type", ggufFileTypeIds[type]], ["general.quantization_version", isFloat ? undefined : 2]];
  return entries.flatMap(([key, value]) => (value === undefined ? [] : [[key, { type: "u32", value }]]));
}

interface GgufOptions extends EncodingOptions, TypeOptions {
  /** Metadata of the tokenizer, see `ggufVocabulary`. */
  vocabulary?: ReadonlyMap<string, GgufValue> | undefined;
}

/** How a file describes a model: as the first architecture of GGUF that expresses it, otherwise in our own way. */
function describeModel(config: AnyConfig): { metadata: Map<string, GgufValue>; pieces(spec: ParameterSpec): Piece[]; ropeFactors?: readonly number[] | undefined } {
  if (isEncoderDecoder(config)) return writeOwnGguf(config);
  try {
    const { architecture, ...rest } = writeGgufConfig(config);
    return { ...rest, pieces: (spec) => ggufPieces(spec, config, architecture) };
  } catch (error) {
    if (error instanceof SwitchyardError && error.code === "ERR_SWITCHYARD_UNSUPPORTED") return writeOwnGguf(config);
    throw error;
  }
}

/** Writes a model as GGUF, atomically, and returns what was written, and as which `general.architecture`. Throws ERR_SWITCHYARD_IO, and what `encodedRows` throws. */
export async function writeModelGguf(path: string, config: AnyConfig, weights: Weights, { type, tensorTypes, vocabulary, ...options }: GgufOptions): Promise<{ tensors: WrittenTensor[]; architecture: string }> {
  const { metadata, pieces, ropeFactors: factors } = describeModel(config);
  const published = publishedTensors(config, weights, pieces);
  const written = chooseTypes(published, ({ shape }) => shape, { type, tensorTypes }, config);
  const tensors = published.map((tensor, i): GgufTensorToWrite => {
    const { type: chosen } = written[i] as WrittenTensor;
    return { name: tensor.name, shape: tensor.shape, type: chosen, chunks: () => encodedRows(tensor, chosen, options) };
  });
  if (factors !== undefined) tensors.push({ name: ropeFactorsName, type: "F32", shape: [factors.length], chunks: () => [encodeBlocks("F32", Float32Array.from(factors))] });
  await writeGguf(path, new Map([...metadata, ...describeFile(type), ...originals(published), ...(vocabulary ?? [])]), tensors);
  return { tensors: written, architecture: metadata.get("general.architecture")?.value as string };
}
