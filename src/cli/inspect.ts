import { Command } from "commander";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { check } from "../errors.js";
import { openCheckpointTensors } from "../formats/checkpoint.js";
import { verifyFolder } from "../formats/folder.js";
import { readJsonFile } from "../formats/json.js";
import { describeRouter } from "../model/card.js";
import type { ModelConfig } from "../model/config.js";
import type { Family } from "../model/families/family.js";
import { readHfConfig } from "../model/families/hf-config.js";
import { readModelFolder } from "../model/folder.js";
import { isGguf, readModelGguf } from "../model/gguf-file.js";
import { countParameters } from "../model/parameters.js";
import { checkpoints } from "../train/checkpoint.js";
import { formatBytes } from "../train/log/format.js";
import { describeCommand } from "./flags.js";
import { grouped, type Io, printJson } from "./io.js";
import { table, terminal } from "./terminal.js";

export function inspectCommand(io: Io): Command {
  return describeCommand(new Command("inspect"), "What a model folder or a GGUF file holds, without loading it: shape, parameters, routers, files. A damaged one is told as such.", [
    "switchyard inspect runs/first",
    "switchyard inspect runs/first/checkpoints/step-00000600 # sums of all files are checked too",
    "switchyard inspect OLMoE-1B-7B/config.json --json # config.json is enough",
    "switchyard inspect OLMoE-1B-7B-Q4_K_M.gguf # reads the header only",
  ])
    .argument("<dir>", "folder of a model, a config.json, or a .gguf file")
    .action((dir: string, flags: { json?: boolean }) => inspectAction(io, dir, flags));
}

async function inspectAction(io: Io, path: string, flags: { json?: boolean }): Promise<void> {
  const inspection = await inspectModel(path);
  if (flags.json === true) printJson(io, inspection);
  else io.stdout.write(describe(io, path, inspection));
}

type Inspection = Awaited<ReturnType<typeof inspectModel>>;

async function inspectModel(path: string) {
  const { config, family, weights, folder } = isGguf(path) ? openGgufFile(path) : await openFolder(path);
  return {
    architecture: family.architecture,
    modelType: family.modelType,
    parameters: countParameters(config),
    weights,
    layers: Array.from({ length: config.layers }, (_, layer) => describeLayer(config, layer)),
    config,
    checkpoints: folder === undefined ? [] : checkpoints(folder).map(({ step }) => step),
  };
}

interface Opened {
  config: ModelConfig;
  family: Family;
  weights: { tensors: number; dtypes: string[]; bytes: number; files: number; verified: string } | null;
  folder?: string;
}

function openGgufFile(path: string): Opened {
  const { config, family, gguf } = readModelGguf(path);
  const dtypes = [...new Set([...gguf.tensors.values()].map(({ type }) => type))].sort();
  return { config, family, weights: { tensors: gguf.tensors.size, dtypes, bytes: gguf.fileBytes, files: gguf.files.length, verified: "names and shapes" } };
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
async function inspectWeights(folder: string): Promise<Opened["weights"]> {
  const manifest = await verifyFolder(folder, { hashes: true });
  await readModelFolder(folder);
  const tensors = [...openCheckpointTensors(folder).values()];
  const files = [...new Set(tensors.map(({ file }) => file))];
  return {
    tensors: tensors.length,
    dtypes: [...new Set(tensors.map(({ dtype }) => dtype))].sort(),
    bytes: files.reduce((sum, file) => sum + statSync(file).size, 0),
    files: files.length,
    verified: manifest === undefined ? "names and shapes" : "names, shapes and sha256 of every file",
  };
}

function describeLayer(config: ModelConfig, layer: number) {
  const { moe } = config;
  if (moe === undefined || !config.sparseLayers.includes(layer)) return { layer, kind: "dense", hidden: config.hidden };
  const { experts, active, hidden, shared } = moe;
  return { layer, kind: "sparse", experts, active, hidden, shared: shared ?? null, router: describeRouter(moe) };
}

function describe(io: Io, path: string, { architecture, modelType, parameters, weights, layers, config, checkpoints: steps }: Inspection): string {
  const { paint } = terminal(io.stdout, io.env);
  const { total, active } = parameters;
  const rows = [
    ["architecture", `${architecture} (${modelType})`],
    ["parameters", `${grouped(total)} in all, ${grouped(active)} active per token (${Math.round((100 * active) / total)}%)`],
    ["shape", `${config.layers} layers of width ${config.width}, ${config.heads} heads of ${config.headDim} (${config.kvHeads} of keys and values), context ${config.context}, vocabulary ${grouped(config.vocab)}`],
    ["weights", weights === null ? "none here: read from config.json alone" : `${formatBytes(weights.bytes)} in ${weights.files} file${weights.files === 1 ? "" : "s"}, ${weights.tensors} tensors, ${weights.dtypes.join(", ")}`],
    ...(weights === null ? [] : [["checked", weights.verified]]),
    ...(steps.length === 0 ? [] : [["checkpoints", `at steps ${steps.toReversed().map(grouped).join(", ")}`]]),
  ];
  const width = Math.max(...rows.map(([name]) => (name as string).length));
  const head = rows.map(([name, value]) => `${paint((name as string).padEnd(width), "dim")}  ${value}`);
  const body = layers.map((l) => [String(l.layer), l.kind, "router" in l ? `${l.experts} of width ${l.hidden}${l.shared === null ? "" : `, shared ${l.shared?.hidden}`}` : `width ${l.hidden}`, "router" in l ? (l.router as string) : ""]);
  return `${[paint(path, "bold"), ...head, "", table(["layer", "kind", "experts", "router"], body, paint)].join("\n")}\n`;
}
