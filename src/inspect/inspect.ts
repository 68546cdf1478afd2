import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { check, SwitchyardError } from "../errors.js";
import { checkPath } from "../options.js";
import { openCheckpointTensors } from "../formats/checkpoint.js";
import { checkModelFolder, verifyFolder } from "../formats/folder.js";
import { readJsonFile } from "../formats/json.js";
import type { StoredModel } from "../model/any-model.js";
import { type AnyConfig, isEncoderDecoder } from "../model/encoder-decoder/config.js";
import { readPublication } from "../model/families/publication.js";
import { readFolder } from "../model/folder.js";
import { isGguf, readGguf } from "../model/gguf-file.js";
import { packedName } from "../model/packed.js";
import { countParameters } from "../model/parameter-specs.js";
import { loadTokenizer } from "../tokenizer/load.js";
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
  config: AnyConfig;
  /** Steps of a run's checkpoints. */
  checkpoints: number[];
}

interface StoredWeights {
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
 * config, in a folder the tokenizer too, and sums where there is a manifest. Throws ERR_SWITCHYARD_CHECKPOINT, ERR_SWITCHYARD_FORMAT,
 * ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming file and field.
 */
export async function inspect(path: string): Promise<Inspection> {
  checkPath("inspect", path);
  return isGguf(path) ? inspectGguf(path) : inspectFolder(path);
}

function ofConfig({ config, family: { architecture, modelType }, sources }: Omit<StoredModel, "sources"> & Partial<StoredModel>): Omit<Inspection, "weights" | "checkpoints"> {
  const memory = isEncoderDecoder(config) ? estimateEncoderDecoderMemory(config, sources) : estimateMemory(config, sources);
  const layers = isEncoderDecoder(config) ? describeStacks(config) : describeLayers(config);
  return { architecture, modelType, parameters: countParameters(config), memory, layers, config: isEncoderDecoder(config) ? config : { ...config, published: undefined } };
}

/** The vocabulary is read with the header; making a tokenizer of it would take twice as long as all the rest. */
function inspectGguf(path: string): Inspection {
  const model = readGguf(path);
  const { gguf } = model;
  const stored = [...gguf.tensors.values()].map(({ type, begin, end }) => ({ dtype: type, bytes: end - begin }));
  return { ...ofConfig(model), weights: { ...summary(stored), bytes: gguf.fileBytes, files: gguf.files.length, verified: "names and shapes" }, checkpoints: [] };
}

async function inspectFolder(path: string): Promise<Inspection> {
  const folder = path.endsWith(".json") ? dirname(path) : path;
  const file = path.endsWith(".json") ? path : join(path, "config.json");
  if (folder === path && existsSync(path)) {
    await verifyFolder(path);
    checkModelFolder(path);
  }
  check(existsSync(file), "ERR_SWITCHYARD_CHECKPOINT", () => `inspect: ${file} does not exist; name the folder of a model, a config.json, or a .gguf file`);
  const hasWeights = folder === path && ["model.safetensors", "model.safetensors.index.json"].some((name) => existsSync(join(folder, name)));
  const weights = hasWeights ? await inspectWeights(folder) : null;
  // With weights, reading the folder checks their names and shapes.
  const known = hasWeights ? await readFolder(folder) : readPublication(readJsonFile(file), file, { has: () => false, elements: () => undefined });
  return { ...ofConfig(known), weights, checkpoints: checkpoints(folder).map(({ step }) => step) };
}

/** Whether there is one that can be used. Throws what `loadTokenizer` throws for one that is damaged. */
function hasTokenizer(folder: string): boolean {
  try {
    return loadTokenizer(folder) !== undefined;
  } catch (error) {
    if (error instanceof SwitchyardError && error.code === "ERR_SWITCHYARD_UNSUPPORTED") return false; // its weights can be inspected all the same
    throw error;
  }
}

/** What the files hold; the tokenizer, if there is one, is made, and with a manifest, its sums are checked. */
async function inspectWeights(folder: string): Promise<StoredWeights> {
  const manifest = await verifyFolder(folder, { hashes: true });
  const tensors = [...openCheckpointTensors(folder)];
  const parts = ["names", "shapes", ...(hasTokenizer(folder) ? ["tokenizer"] : []), ...(manifest === undefined ? [] : ["sha256 of every file"])];
  const files = [...new Set(tensors.map(([, { file }]) => file))];
  return {
    ...summary(tensors.map(([name, { dtype, begin, end }]) => ({ dtype: packedName(name)?.type ?? dtype, bytes: end - begin }))),
    bytes: files.reduce((sum, file) => sum + statSync(file).size, 0),
    files: files.length,
    verified: `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`,
  };
}

function summary(tensors: readonly { dtype: string; bytes: number }[]): Pick<StoredWeights, "tensors" | "dtypes" | "bytesByDtype"> {
  const dtypes = [...new Set(tensors.map(({ dtype }) => dtype))].sort();
  const bytesOf = (type: string) => tensors.reduce((sum, { dtype, bytes }) => sum + (dtype === type ? bytes : 0), 0);
  return { tensors: tensors.length, dtypes, bytesByDtype: Object.fromEntries(dtypes.map((type) => [type, bytesOf(type)])) };
}
