import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { check } from "../errors.js";
import { openCheckpointTensors } from "../formats/checkpoint.js";
import { verifyFolder } from "../formats/folder.js";
import { type Json, readJsonFile } from "../formats/json.js";
import type { ModelConfig } from "../model/config.js";
import type { EncoderDecoderConfig } from "../model/encoder-decoder/config.js";
import { readEncoderDecoderFolder } from "../model/encoder-decoder/folder.js";
import { countEncoderDecoderParameters } from "../model/encoder-decoder/parameters.js";
import type { Architecture } from "../model/families/family.js";
import { readHfConfig } from "../model/families/hf-config.js";
import { isSwitchConfig, readSwitchConfig, switchFamily } from "../model/families/switch.js";
import { type ModelFolder, readModelFolder } from "../model/folder.js";
import { isGguf, readModelGguf } from "../model/gguf-file.js";
import { packedName } from "../model/packed.js";
import { countParameters } from "../model/parameter-specs.js";
import { checkpoints } from "../train/checkpoint.js";
import { describeLayers, describeStacks, type LayerDescription } from "./layers.js";
import { estimateEncoderDecoderMemory, estimateMemory, type MemoryEstimate } from "./memory.js";

/** What a model is, by its config and the headers of its files. */
export interface Inspection {
  architecture: string;
  modelType: string;
  parameters: { total: number; active: number };
  /** null: there are none, only a config.json. */
  weights: StoredWeights | null;
  memory: MemoryEstimate;
  layers: LayerDescription[];
  config: ModelConfig | EncoderDecoderConfig;
  /** Steps of a run's checkpoints. */
  checkpoints: number[];
}

export interface StoredWeights {
  tensors: number;
  dtypes: string[];
  /** Bytes of tensor data by type. */
  bytesByDtype: Record<string, number>;
  /** Of the files, headers included. */
  bytes: number;
  files: number;
  /** What was checked. */
  verified: string;
}

/**
 * Inspects a model folder, a config.json or a GGUF file without loading weights; names and shapes of all tensors are checked against the
 * config, and sums where there is a manifest. Throws ERR_SWITCHYARD_CHECKPOINT, ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or
 * ERR_SWITCHYARD_CONFIG naming file and field.
 */
export async function inspect(path: string): Promise<Inspection> {
  return isGguf(path) ? inspectGguf(path) : inspectFolder(path);
}

type OfConfig = Pick<Inspection, "architecture" | "modelType" | "parameters" | "memory" | "layers" | "config">;

function ofConfig({ config, family, sources }: { config: ModelConfig; family: Architecture; sources?: ModelFolder["sources"] }): OfConfig {
  const { architecture, modelType } = family;
  return { architecture, modelType, parameters: countParameters(config), memory: estimateMemory(config, sources), layers: describeLayers(config), config: { ...config, published: undefined } };
}

function ofEncoderDecoder(config: EncoderDecoderConfig): OfConfig {
  const parameters = countEncoderDecoderParameters(config);
  return { ...switchFamily, parameters, memory: estimateEncoderDecoderMemory(config), layers: describeStacks(config), config };
}

function inspectGguf(path: string): Inspection {
  const model = readModelGguf(path);
  const { gguf } = model;
  const stored = [...gguf.tensors.values()].map(({ type, begin, end }) => ({ dtype: type, bytes: end - begin }));
  return { ...ofConfig(model), weights: { ...summary(stored), bytes: gguf.fileBytes, files: gguf.files.length, verified: "names and shapes" }, checkpoints: [] };
}

async function inspectFolder(path: string): Promise<Inspection> {
  const folder = path.endsWith(".json") ? dirname(path) : path;
  const file = path.endsWith(".json") ? path : join(path, "config.json");
  check(existsSync(file), "ERR_SWITCHYARD_CHECKPOINT", () => `inspect: ${file} does not exist; name the folder of a model, a config.json, or a .gguf file`);
  const hasWeights = folder === path && ["model.safetensors", "model.safetensors.index.json"].some((name) => existsSync(join(folder, name)));
  const weights = hasWeights ? await inspectWeights(folder) : null;
  const json = readJsonFile(file);
  // With weights, reading the folder checks their names and shapes.
  const known = isSwitchConfig(json) ? await inspectSwitch(json, file, hasWeights) : ofConfig(hasWeights ? await readModelFolder(folder) : readHfConfig(json, file));
  return { ...known, weights, checkpoints: checkpoints(folder).map(({ step }) => step) };
}

async function inspectSwitch(json: Json, file: string, hasWeights: boolean): Promise<OfConfig> {
  return ofEncoderDecoder(hasWeights ? (await readEncoderDecoderFolder(dirname(file))).config : readSwitchConfig(json, file));
}

/** What the files hold; with a manifest, its sums are checked. */
async function inspectWeights(folder: string): Promise<StoredWeights> {
  const manifest = await verifyFolder(folder, { hashes: true });
  const tensors = [...openCheckpointTensors(folder)];
  const files = [...new Set(tensors.map(([, { file }]) => file))];
  return {
    ...summary(tensors.map(([name, { dtype, begin, end }]) => ({ dtype: packedName(name)?.type ?? dtype, bytes: end - begin }))),
    bytes: files.reduce((sum, file) => sum + statSync(file).size, 0),
    files: files.length,
    verified: manifest === undefined ? "names and shapes" : "names, shapes and sha256 of every file",
  };
}

function summary(tensors: readonly { dtype: string; bytes: number }[]): Pick<StoredWeights, "tensors" | "dtypes" | "bytesByDtype"> {
  const dtypes = [...new Set(tensors.map(({ dtype }) => dtype))].sort();
  const bytesOf = (type: string) => tensors.reduce((sum, { dtype, bytes }) => sum + (dtype === type ? bytes : 0), 0);
  return { tensors: tensors.length, dtypes, bytesByDtype: Object.fromEntries(dtypes.map((type) => [type, bytesOf(type)])) };
}
