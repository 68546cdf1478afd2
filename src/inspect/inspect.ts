import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { check } from "../errors.js";
import { openCheckpointTensors } from "../formats/checkpoint.js";
import { verifyFolder } from "../formats/folder.js";
import { readJsonFile } from "../formats/json.js";
import type { ModelConfig } from "../model/config.js";
import type { Family } from "../model/families/family.js";
import { readHfConfig } from "../model/families/hf-config.js";
import { readModelFolder } from "../model/folder.js";
import { isGguf, readModelGguf } from "../model/gguf-file.js";
import { countParameters } from "../model/parameters.js";
import type { SharedExpert } from "../moe/layer.js";
import { describeRouter } from "../routing/describe.js";
import { checkpoints } from "../train/checkpoint.js";
import { estimateMemory, type MemoryEstimate } from "./memory.js";

/** What a model is, by its config and the headers of its files. */
export interface Inspection {
  architecture: string;
  modelType: string;
  parameters: { total: number; active: number };
  /** null: there are none, only a config.json. */
  weights: StoredWeights | null;
  memory: MemoryEstimate;
  layers: LayerDescription[];
  config: ModelConfig;
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

export type LayerDescription =
  | { layer: number; mixer: string; kind: "dense"; hidden: number }
  | { layer: number; mixer: string; kind: "sparse"; experts: number; active: number; hidden: number; shared: SharedExpert | null; router: string };

/**
 * Inspects a model folder, a config.json or a GGUF file without loading weights; names and shapes of all tensors are checked against the
 * config, and sums where there is a manifest. Throws ERR_SWITCHYARD_CHECKPOINT, ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or
 * ERR_SWITCHYARD_CONFIG naming file and field.
 */
export async function inspect(path: string): Promise<Inspection> {
  const { config, family, weights, folder } = isGguf(path) ? openGgufFile(path) : await openFolder(path);
  return {
    architecture: family.architecture,
    modelType: family.modelType,
    parameters: countParameters(config),
    weights,
    memory: estimateMemory(config),
    layers: Array.from({ length: config.layers }, (_, layer) => describeLayer(config, layer)),
    config,
    checkpoints: folder === undefined ? [] : checkpoints(folder).map(({ step }) => step),
  };
}

interface Opened {
  config: ModelConfig;
  family: Family;
  weights: StoredWeights | null;
  folder?: string;
}

function openGgufFile(path: string): Opened {
  const { config, family, gguf } = readModelGguf(path);
  const stored = [...gguf.tensors.values()].map(({ type, begin, end }) => ({ dtype: type, bytes: end - begin }));
  return { config, family, weights: { ...summary(stored), bytes: gguf.fileBytes, files: gguf.files.length, verified: "names and shapes" } };
}

async function openFolder(path: string): Promise<Opened> {
  const folder = path.endsWith(".json") ? dirname(path) : path;
  const file = path.endsWith(".json") ? path : join(path, "config.json");
  check(existsSync(file), "ERR_SWITCHYARD_CHECKPOINT", () => `inspect: ${file} does not exist; name the folder of a model, a config.json, or a .gguf file`);
  const { config, family } = readHfConfig(readJsonFile(file), file);
  const hasWeights = folder === path && ["model.safetensors", "model.safetensors.index.json"].some((name) => existsSync(join(folder, name)));
  return { config, family, weights: hasWeights ? await inspectWeights(folder) : null, folder };
}

/** Checks names and shapes against the config, and the manifest's sums where there is one. */
async function inspectWeights(folder: string): Promise<StoredWeights> {
  const manifest = await verifyFolder(folder, { hashes: true });
  await readModelFolder(folder);
  const tensors = [...openCheckpointTensors(folder).values()];
  const files = [...new Set(tensors.map(({ file }) => file))];
  return {
    ...summary(tensors.map(({ dtype, begin, end }) => ({ dtype, bytes: end - begin }))),
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

function describeLayer(config: ModelConfig, layer: number): LayerDescription {
  const { moe } = config;
  const mixer = config.mixers[layer]?.kind ?? "";
  if (moe === undefined || !config.sparseLayers.includes(layer)) return { layer, mixer, kind: "dense", hidden: config.hidden };
  const { experts, active, hidden, shared } = moe;
  return { layer, mixer, kind: "sparse", experts, active, hidden, shared: shared ?? null, router: describeRouter(moe.router, moe) };
}
