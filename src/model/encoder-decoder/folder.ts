import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { check } from "../../errors.js";
import { openCheckpointTensors, writeCheckpointTensors } from "../../formats/checkpoint.js";
import { verifyFolder, writeFolderAtomically } from "../../formats/folder.js";
import { readJsonFile } from "../../formats/json.js";
import { view } from "../../tensor/tensor.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { readSwitchConfig, switchPieces, writeSwitchConfig } from "../families/switch.js";
import { checkStoredShape, readTensor, storedTensor } from "../stored.js";
import type { EncoderDecoderConfig } from "./config.js";
import { type EncoderDecoderParameters, encoderDecoderSpecs } from "./parameters.js";

export interface EncoderDecoderFolder {
  config: EncoderDecoderConfig;
  /** Copies the weights into parameters of this config. */
  fill(parameters: EncoderDecoderParameters): void;
}

/** Config and tensor directory of a model folder, checked against each other; `fill` then reads the weights. */
export async function readEncoderDecoderFolder(folder: string): Promise<EncoderDecoderFolder> {
  await verifyFolder(folder);
  const configFile = join(folder, "config.json");
  const config = readSwitchConfig(readJsonFile(configFile), configFile);
  const tensors = openCheckpointTensors(folder);
  const found = encoderDecoderSpecs(config).flatMap((spec) =>
    switchPieces(spec).map((piece) => {
      const stored = tensors.get(piece.name) ?? tensors.get(piece.sharedName ?? piece.name);
      check(stored !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${folder}: tensor "${piece.name}" of a Switch Transformer is missing`);
      checkStoredShape(piece.name, stored, piece.shape, "config.json says");
      return { spec, piece, stored };
    }),
  );
  const fill = (parameters: EncoderDecoderParameters) => {
    for (const { spec, piece, stored } of found) readTensor(parameters.engine, view(parameters.get(spec.name), piece.shape, piece.offset), stored);
  };
  return { config, fill };
}

/** Writes config, weights under their published names, and tokenizer as one complete folder. */
export async function writeEncoderDecoderFolder(folder: string, config: EncoderDecoderConfig, parameters: EncoderDecoderParameters, tokenizer: Tokenizer | undefined): Promise<void> {
  await writeFolderAtomically(folder, async (temporary) => {
    const json = `${JSON.stringify(writeSwitchConfig(config), undefined, 2)}\n`;
    await writeFile(join(temporary, "config.json"), json);
    const tensors = parameters.list.flatMap((spec) => switchPieces(spec).map(({ name, shape, offset }) => storedTensor(parameters.engine, name, view(spec.tensor, shape, offset))));
    await writeCheckpointTensors(temporary, tensors);
    await tokenizer?.save(temporary);
  });
}
