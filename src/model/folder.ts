import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openCheckpointTensors, readAsF32, writeCheckpointTensors } from "../formats/checkpoint.js";
import { verifyFolder, writeFolderAtomically } from "../formats/folder.js";
import { type JsonObject, readJsonFile, stringifyJson } from "../formats/json.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { modelCard } from "./card.js";
import type { ModelConfig } from "./config.js";
import type { Architecture } from "./families/family.js";
import { readHfConfig, writeHfConfig } from "./families/hf-config.js";
import { type Piece, publishedPieces, sharedTableName, type TensorNames } from "./families/names.js";
import { readQuantization } from "./families/quantization.js";
import type { ParameterSource } from "./mapped.js";
import { checkPacked, packedName, packedShape, packedTensors, type PackedTensor, tensorToWrite } from "./packed.js";
import { type ParameterSpec, parameterSpecs } from "./parameter-specs.js";
import { chooseTypes, type EncodingOptions, publishedTensors, type TypeOptions, type WrittenTensor } from "./published.js";
import { pieceReader, type Reader, repackedRows } from "./quantized.js";
import { repacked } from "./repacked.js";
import type { Weights } from "./staged.js";
import { decodeTensor, joined, readPiece, storedRows } from "./stored.js";

export interface ModelFolder {
  config: ModelConfig;
  family: Architecture;
  /** By parameter: where its weights come from. */
  sources: ReadonlyMap<string, ParameterSource>;
}

/** Config and tensor directory of a model folder, checked against each other; `sources` then read the weights. */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  await verifyFolder(folder);
  const configFile = join(folder, "config.json");
  const json = readJsonFile(configFile);
  const { config: stated, family } = readHfConfig(json, configFile);
  const quantization = readQuantization(json, configFile);
  const tensors = openCheckpointTensors(folder);
  const packed = quantization?.method === "switchyard" ? packedTensors(tensors) : new Map<string, PackedTensor>();
  const stored = { has: (name: string) => tensors.has(name) || packed.has(name) };
  const elements = (name: string): Float32Array | undefined => {
    const tensor = tensors.get(name);
    return tensor && joined(readAsF32(tensor));
  };
  const config = family.refine?.(stated, elements) ?? stated;
  const specs = parameterSpecs(config);
  const isThere = (names: TensorNames) => specs.every((spec) => publishedPieces(spec, config, names).every(({ name }) => stored.has(name)));
  const names = family.otherNames?.find(isThere) ?? family.names;
  const sourceOf = (spec: ParameterSpec): ParameterSource => {
    const pieces = publishedPieces(spec, config, names).map((piece) => ({ ...piece, name: config.tiedEmbeddings ? sharedTableName(piece.name, names, stored) : piece.name }));
    const readers = pieces.map((piece) => packedReader(piece, packed.get(piece.name)) ?? pieceReader(folder, piece, tensors, quantization));
    const rows = pieces.map((piece) => packedRows(piece, packed.get(piece.name)) ?? storedRows(piece, tensors.get(piece.name)));
    return {
      read: (engine, target) => readers.forEach((read) => read(engine, target)),
      rows: rows.every((part) => part !== undefined) ? rows : undefined,
      repacked: repacked(pieces.map((piece) => repackedRows(piece, tensors, quantization))),
    };
  };
  return { config, family, sources: new Map(specs.map((spec) => [spec.name, sourceOf(spec)])) };
}

function packedReader(piece: Piece, tensor: PackedTensor | undefined): Reader | undefined {
  if (tensor === undefined) return undefined;
  checkPacked(piece, tensor);
  return (engine, parameter) => readPiece(engine, parameter, piece, decodeTensor(tensor), false);
}

const packedRows = (piece: Piece, tensor: PackedTensor | undefined) => tensor && storedRows({ ...piece, transposed: false }, { ...tensor, dtype: tensor.type });

export interface FolderOptions extends EncodingOptions, Partial<TypeOptions> {
  /** Adds files of its own before the folder is closed. */
  extra?: (folder: string) => void | Promise<void>;
}

/** Writes config, weights, tokenizer and card as one complete folder, and returns what was written. Throws ERR_SWITCHYARD_IO, and what `encodedRows` throws. */
export async function writeModelFolder(
  folder: string,
  config: ModelConfig,
  weights: Weights,
  tokenizer: Tokenizer | undefined,
  { type = "F32", tensorTypes, extra, ...options }: FolderOptions = {},
): Promise<WrittenTensor[]> {
  const { json, family } = writeHfConfig(config);
  const published = publishedTensors(config, weights, (spec) => publishedPieces(spec, config, family.names));
  const written = chooseTypes(published, ({ sources: [{ piece }] }) => packedShape(piece), { type, tensorTypes }, config);
  const tensors = published.map((tensor, i) => tensorToWrite(tensor, (written[i] as WrittenTensor).type, options));
  const isPacked = tensors.some(({ name }) => packedName(name) !== undefined);
  await writeFolderAtomically(folder, async (temporary) => {
    const special = Object.fromEntries(Object.entries({ bos_token_id: tokenizer?.bosId, eos_token_id: tokenizer?.eosId }).filter(([, id]) => id !== undefined)) as JsonObject;
    const quantization: JsonObject = isPacked ? { quantization_config: { quant_method: "switchyard" } } : {};
    await writeFile(join(temporary, "config.json"), `${stringifyJson({ ...json, ...special, ...quantization }, config.published)}\n`);
    await writeFile(join(temporary, "generation_config.json"), `${stringifyJson(special)}\n`);
    await writeFile(join(temporary, "README.md"), modelCard(config, family));
    await writeCheckpointTensors(temporary, tensors);
    await tokenizer?.save(temporary);
    await extra?.(temporary);
  });
  return written;
}
