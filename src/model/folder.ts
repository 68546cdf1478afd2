import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openCheckpointTensors, readAsF32, writeCheckpointTensors } from "../formats/checkpoint.js";
import { verifyFolder, writeFolderAtomically } from "../formats/folder.js";
import { type JsonObject, readJsonFile, stringifyJson } from "../formats/json.js";
import type { TensorToWrite } from "../formats/safetensors-writer.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { modelCard } from "./card.js";
import type { ModelConfig } from "./config.js";
import type { Architecture } from "./families/family.js";
import { readHfConfig, writeHfConfig } from "./families/hf-config.js";
import { type Piece, publishedPieces, sharedTableName, type TensorNames } from "./families/names.js";
import { readQuantization } from "./families/quantization.js";
import type { ParameterSource } from "./mapped.js";
import { type Parameters, type ParameterSpec, parameterSpecs } from "./parameters.js";
import { pieceReader } from "./quantized.js";
import { publishedTensor, storedRows } from "./stored.js";

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
  const elements = (name: string): Float32Array | undefined => {
    const tensor = tensors.get(name);
    return tensor && Float32Array.from([...readAsF32(tensor)].flatMap((values) => [...values]));
  };
  const config = family.refine?.(stated, elements) ?? stated;
  const specs = parameterSpecs(config);
  const isThere = (names: TensorNames) => specs.every((spec) => publishedPieces(spec, config, names).every(({ name }) => tensors.has(name)));
  const names = family.otherNames?.find(isThere) ?? family.names;
  const sourceOf = (spec: ParameterSpec): ParameterSource => {
    const pieces = publishedPieces(spec, config, names).map((piece) => ({ ...piece, name: config.tiedEmbeddings ? sharedTableName(piece.name, names, tensors) : piece.name }));
    const readers = pieces.map((piece) => pieceReader(folder, piece, tensors, quantization));
    const rows = pieces.map((piece) => storedRows(piece, tensors.get(piece.name)));
    return {
      read: (engine, target) => readers.forEach((read) => read(engine, target)),
      rows: rows.every((part) => part !== undefined) ? rows : undefined,
    };
  };
  return { config, family, sources: new Map(specs.map((spec) => [spec.name, sourceOf(spec)])) };
}

/** The weights under their published names. */
function publishedTensors(config: ModelConfig, parameters: Parameters, family: Architecture): TensorToWrite[] {
  const byName = new Map<string, { piece: Piece; parameter: Tensor }[]>();
  for (const spec of parameterSpecs(config)) {
    for (const piece of publishedPieces(spec, config, family.names)) {
      const sources = byName.get(piece.name);
      const source = { piece, parameter: parameters.get(spec.name) };
      if (sources === undefined) byName.set(piece.name, [source]);
      else sources.push(source);
    }
  }
  return [...byName.values()].map((sources) => publishedTensor(parameters.engine, sources));
}

/** Writes config, weights, tokenizer and card as one complete folder. `extra` adds files of its own before the folder is closed. */
export async function writeModelFolder(
  folder: string,
  config: ModelConfig,
  parameters: Parameters,
  tokenizer: Tokenizer | undefined,
  extra?: (folder: string) => void | Promise<void>,
): Promise<void> {
  const { json, family } = writeHfConfig(config);
  await writeFolderAtomically(folder, async (temporary) => {
    const special = Object.fromEntries(Object.entries({ bos_token_id: tokenizer?.bosId, eos_token_id: tokenizer?.eosId }).filter(([, id]) => id !== undefined)) as JsonObject;
    await writeFile(join(temporary, "config.json"), `${stringifyJson({ ...json, ...special }, config.published)}\n`);
    await writeFile(join(temporary, "generation_config.json"), `${stringifyJson(special)}\n`);
    await writeFile(join(temporary, "README.md"), modelCard(config, family));
    await writeCheckpointTensors(temporary, publishedTensors(config, parameters, family));
    await tokenizer?.save(temporary);
    await extra?.(temporary);
  });
}
