import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { check } from "../errors.js";
import { openCheckpointTensors, writeCheckpointTensors } from "../formats/checkpoint.js";
import { verifyFolder, writeFolderAtomically } from "../formats/folder.js";
import { readJsonFile } from "../formats/json.js";
import type { TensorToWrite } from "../formats/safetensors-writer.js";
import type { Engine } from "../engine/engine.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { modelCard } from "./card.js";
import type { ModelConfig } from "./config.js";
import type { Family } from "./families/family.js";
import { readHfConfig, writeHfConfig } from "./families/hf-config.js";
import { publishedPieces, sharedTableName } from "./families/names.js";
import { readQuantization } from "./families/quantization.js";
import { type Parameters, parameterSpecs } from "./parameters.js";
import { readWeight } from "./stored.js";

/** Elements written at a time. */
const chunkElements = 2 ** 20;

export interface ModelFolder {
  config: ModelConfig;
  family: Family;
  /** Copies the weights into parameters of this config. */
  fill(parameters: Parameters): void;
}

/** Config and tensor directory of a model folder, checked against each other; `fill` then reads the weights. */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  await verifyFolder(folder);
  const configFile = join(folder, "config.json");
  const json = readJsonFile(configFile);
  const { config, family } = readHfConfig(json, configFile);
  const quantization = readQuantization(json, configFile);
  const tensors = openCheckpointTensors(folder);
  const nameOf = (name: string) => (config.tiedEmbeddings ? sharedTableName(name, tensors) : name);
  const pieces = parameterSpecs(config).flatMap((spec) => publishedPieces(spec, config, family.names).map((piece) => ({ spec, piece: { ...piece, name: nameOf(piece.name) } })));
  for (const { piece } of pieces) {
    const stored = tensors.get(piece.name);
    check(stored !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${folder}: tensor "${piece.name}" of a ${family.modelType} model is missing`);
    check(
      stored.shape.length === piece.shape.length && stored.shape.every((n, i) => n === piece.shape[i]),
      "ERR_SWITCHYARD_FORMAT",
      () => `${stored.file}: tensor "${piece.name}": config.json says [${piece.shape.join(", ")}], the file has [${stored.shape.join(", ")}]`,
    );
  }
  const fill = (parameters: Parameters) => {
    for (const { spec, piece } of pieces) {
      readWeight(parameters.engine, view(parameters.get(spec.name), piece.shape, piece.offset), piece.name, tensors, quantization);
    }
  };
  return { config, family, fill };
}

/** A tensor as a file keeps it: little-endian F32, read from the engine piece by piece. */
export function storedTensor(engine: Engine, name: string, tensor: Tensor): TensorToWrite {
  return {
    name,
    dtype: "F32",
    shape: tensor.shape,
    *chunks() {
      for (let first = 0; first < tensor.size; first += chunkElements) {
        const values = engine.read(view(tensor, [Math.min(chunkElements, tensor.size - first)], first));
        yield new Uint8Array(Float32Array.from(values).buffer);
      }
    },
  };
}

/** The weights under their published names. */
function publishedTensors(config: ModelConfig, parameters: Parameters, family: Family): TensorToWrite[] {
  return parameterSpecs(config).flatMap((spec) =>
    publishedPieces(spec, config, family.names).map(({ name, shape, offset }) => storedTensor(parameters.engine, name, view(parameters.get(spec.name), shape, offset))),
  );
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
    const writeJson = (name: string, value: unknown) => writeFile(join(temporary, name), `${JSON.stringify(value, undefined, 2)}\n`);
    const special = { bos_token_id: tokenizer?.bosId, eos_token_id: tokenizer?.eosId };
    await writeJson("config.json", { ...json, ...special });
    await writeJson("generation_config.json", special);
    await writeFile(join(temporary, "README.md"), modelCard(config, family));
    await writeCheckpointTensors(temporary, publishedTensors(config, parameters, family));
    await tokenizer?.save(temporary);
    await extra?.(temporary);
  });
}
