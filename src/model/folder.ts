import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type CheckpointTensor, openCheckpointTensors, readAsF32, writeCheckpointTensors } from "../formats/checkpoint.js";
import { checkModelFolder, verifyFolder, writeFolderAtomically } from "../formats/folder.js";
import { type JsonObject, readJsonFile, stringifyJson } from "../formats/json.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { asLanguageModel, type StoredModel } from "./any-model.js";
import { modelCard } from "./card.js";
import type { ModelConfig } from "./config.js";
import type { AnyConfig } from "./encoder-decoder/config.js";
import type { Piece } from "./families/names.js";
import { readPublication, writePublication } from "./families/publication.js";
import { type Quantization, readQuantization } from "./families/quantization.js";
import { checkPacked, packedName, packedShape, packedTensors, type PackedTensor, tensorToWrite } from "./packed.js";
import { parameterSource, type PieceSource } from "./parameter-source.js";
import { parameterSpecs } from "./parameter-specs.js";
import { chooseTypes, type EncodingOptions, publishedTensors, type TypeOptions, type WrittenTensor } from "./published.js";
import { pieceReader, repackedPiece } from "./quantized.js";
import type { Weights } from "./staged.js";
import { decodeTensor, joined, readPiece, storedRows } from "./stored.js";

/** A model folder of either kind; `sources` read the weights. Throws ERR_SWITCHYARD_CHECKPOINT, ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming file and field. */
export async function readFolder(folder: string): Promise<StoredModel> {
  await verifyFolder(folder);
  checkModelFolder(folder);
  const configFile = join(folder, "config.json");
  const json = readJsonFile(configFile);
  const quantization = readQuantization(json, configFile);
  const tensors = openCheckpointTensors(folder);
  const packed = quantization?.method === "switchyard" ? packedTensors(tensors) : new Map<string, PackedTensor>();
  const { config, family, pieces: piecesOf } = readPublication(json, configFile, {
    has: (name) => tensors.has(name) || packed.has(name),
    elements(name) {
      const tensor = tensors.get(name);
      return tensor && joined(readAsF32(tensor));
    },
  });
  const sourceOf = (piece: Piece): PieceSource => {
    const blocks = packed.get(piece.name);
    if (blocks !== undefined) return packedSource(piece, blocks);
    const rows = storedRows(piece, tensors.get(piece.name));
    return { read: pieceReader(folder, piece, tensors, quantization), rows, repacked: repackedPiece(piece, tensors, quantization), type: typeName(piece, tensors, quantization) };
  };
  return { config, family, sources: new Map(parameterSpecs(config).map((spec) => [spec.name, parameterSource(piecesOf(spec).map(sourceOf))])) };
}

/** The folder of a language model. Throws as `readFolder`. */
export const readModelFolder = async (folder: string): Promise<StoredModel<ModelConfig>> => asLanguageModel(await readFolder(folder), folder);

/** "F8_E4M3 in blocks of 128 x 64", "F32 [in, out]" */
function typeName({ name, transposed }: Piece, tensors: ReadonlyMap<string, CheckpointTensor>, quantization: Quantization | undefined): string {
  const { dtype } = tensors.get(name) ?? { dtype: "blocks" }; // of MXFP4
  if (quantization?.method === "fp8" && dtype.startsWith("F8")) return `${dtype} in blocks of ${quantization.block.join(" x ")}`;
  return transposed ? `${dtype} [in, out]` : dtype;
}

function packedSource(piece: Piece, tensor: PackedTensor): PieceSource {
  checkPacked(piece, tensor);
  const rows = storedRows({ ...piece, transposed: false }, { ...tensor, dtype: tensor.type });
  return { read: (engine, parameter) => readPiece(engine, parameter, piece, decodeTensor(tensor), false), rows, type: "blocks" };
}

interface FolderOptions extends EncodingOptions, Partial<TypeOptions> {
  /** Adds files of its own before the folder is closed. */
  extra?: (folder: string) => void | Promise<void>;
}

/** Writes config, weights, tokenizer and card as one complete folder, and returns what was written. Throws ERR_SWITCHYARD_IO, and what `encodedRows` throws. */
export async function writeModelFolder(
  folder: string,
  config: AnyConfig,
  weights: Weights,
  tokenizer: Tokenizer | undefined,
  { type = "F32", tensorTypes, extra, ...options }: FolderOptions = {},
): Promise<WrittenTensor[]> {
  const { json, origin, family, pieces } = writePublication(config);
  const published = publishedTensors(config, weights, pieces);
  const written = chooseTypes(published, ({ sources: [{ piece }] }) => packedShape(piece), { type, tensorTypes }, config);
  const tensors = published.map((tensor, i) => tensorToWrite(tensor, (written[i] as WrittenTensor).type, options));
  const isPacked = tensors.some(({ name }) => packedName(name) !== undefined);
  await writeFolderAtomically(folder, async (temporary) => {
    const ends = [...new Set([tokenizer?.eosId ?? [], tokenizer?.endIds ?? []].flat())];
    const ids = { bos_token_id: tokenizer?.bosId, eos_token_id: ends.length > 1 ? ends : ends[0] };
    const special = Object.fromEntries(Object.entries(ids).filter(([, id]) => id !== undefined)) as JsonObject;
    const quantization: JsonObject = isPacked ? { quantization_config: { quant_method: "switchyard" } } : {};
    await writeFile(join(temporary, "config.json"), `${stringifyJson({ ...json, ...special, ...quantization }, origin)}\n`);
    await writeFile(join(temporary, "generation_config.json"), `${stringifyJson(special)}\n`);
    await writeFile(join(temporary, "README.md"), modelCard(config, family));
    await writeCheckpointTensors(temporary, tensors);
    await tokenizer?.save(temporary);
    await extra?.(temporary);
  });
  return written;
}
