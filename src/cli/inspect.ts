import { Command } from "commander";
import { check } from "../errors.js";
import { type Budgets, expectBudgets } from "../inspect/budgets.js";
import { inspect, type Inspection } from "../inspect/inspect.js";
import type { LayerDescription } from "../inspect/layers.js";
import type { LayerName } from "../inspect/subject.js";
import { formatBytes, formatPercent } from "../train/log/format.js";
import { describeCommand } from "./flags.js";
import { counted, grouped, type Io, printJson } from "./io.js";
import { table, terminal } from "./terminal.js";

interface InspectFlags {
  json?: boolean;
  budgets?: boolean;
  trace?: string;
}

export function inspectCommand(io: Io): Command {
  return describeCommand(new Command("inspect"), "What a model folder or a GGUF file holds, without loading it: shape, parameters, routers, memory, files. A damaged one is told as such.", [
    "switchyard inspect runs/first",
    "switchyard inspect runs/first/checkpoints/step-00002400 # sums of all files are checked too",
    "switchyard inspect OLMoE-1B-7B/config.json --json # config.json is enough",
    "switchyard inspect OLMoE-1B-7B-Q4_K_M.gguf # reads the header only",
    "switchyard inspect OLMoE-1B-7B-Q4_K_M.gguf --budgets # what --memory would give at several sizes, on this machine",
  ])
    .argument("<dir>", "folder of a model, a config.json, or a .gguf file")
    .option("--budgets", "also measure this machine, and tell what memory budgets would give")
    .option("--trace <file>", "with --budgets: routing that generate --routing-out recorded, instead of experts that are used alike")
    .action((dir: string, flags: InspectFlags) => inspectAction(io, dir, flags));
}

async function inspectAction(io: Io, path: string, { json, budgets: wanted, trace }: InspectFlags): Promise<void> {
  check(wanted === true || trace === undefined, "ERR_SWITCHYARD_USAGE", () => "inspect: --trace goes with --budgets");
  const inspection = await inspect(path);
  const budgets = wanted === true ? await expectBudgets(path, trace) : undefined;
  if (json === true) printJson(io, { ...inspection, ...budgets });
  else io.stdout.write(describe(io, path, inspection) + (budgets === undefined ? "" : describeBudgets(io, budgets)));
}

function describeBudgets(io: Io, { memoryRate, readRate, budgets }: Budgets): string {
  const { paint } = terminal(io.stdout, io.env);
  const rows = budgets.map(({ memory, slots, experts, hitRate, bytesPerToken, tokensPerSecond }) => [formatBytes(memory), formatPercent(slots / experts), formatPercent(hitRate), formatBytes(bytesPerToken), tokensPerSecond.toPrecision(3)]);
  return `\n${table(["--memory", "experts in it", "found there", "read per token", "tokens/s at most"], rows, paint)}\nmemory is read at ${formatBytes(memoryRate)}/s, the file at ${formatBytes(readRate)}/s\n`;
}

function describe(io: Io, path: string, { architecture, modelType, parameters, weights, memory, layers, config, checkpoints: steps }: Inspection): string {
  const { paint } = terminal(io.stdout, io.env);
  const { total, active } = parameters;
  // One mixture, so one router, for all sparse layers.
  const router = layers.flatMap((layer) => (layer.kind === "sparse" ? [layer.router] : []))[0];
  const perToken = memory.cachePerToken === 0 ? "" : `, ${formatBytes(memory.cachePerToken)} per token`;
  const rows: [string, string][] = [
    ["architecture", `${architecture} (${modelType})`],
    ["parameters", `${grouped(total)} in all, ${grouped(active)} active per token (${Math.round((100 * active) / total)}%)`],
    ["shape", describeShape(config)],
    ...(router === undefined ? [] : [["router", router] as [string, string]]),
    ["weights", weights === null ? "none here: read from config.json alone" : describeWeights(weights)],
    ...(weights === null ? [] : [["checked", weights.verified] as [string, string]]),
    ["memory", `about ${formatBytes(memory.total)}: ${formatBytes(memory.weights)} of weights${weights === null ? " in f32" : ""}, ${formatBytes(memory.cache)} of cache for ${grouped(memory.cacheTokens)} tokens${perToken}`],
    ...(steps.length === 0 ? [] : [["checkpoints", `at steps ${steps.toReversed().map(grouped).join(", ")}`] as [string, string]]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const head = rows.map(([name, value]) => `${paint(name.padEnd(width), "dim")}  ${value}`);
  return `${[paint(path, "bold"), ...head, "", table(["layers", "mixer", "kind", "width"], runs(layers), paint)].join("\n")}\n`;
}

function describeShape(config: Inspection["config"]): string {
  const [layers, limits] =
    "encoder" in config
      ? [`${config.encoder.layers} layers to encode and ${config.decoder.layers} to decode`, "any length"]
      : [counted(config.layers, "layer"), `${config.kvHeads} of keys and values, context ${grouped(config.context)}`];
  return `${layers} of width ${config.width}, ${counted(config.heads, "head")} of ${config.headDim}, ${limits}, vocabulary ${grouped(config.vocab)}`;
}

function describeWeights({ tensors, bytesByDtype, bytes, files }: NonNullable<Inspection["weights"]>): string {
  const types = Object.entries(bytesByDtype).map(([dtype, n]) => `${dtype} ${formatBytes(n)}`);
  return `${formatBytes(bytes)} in ${counted(files, "file")}, ${tensors} tensors: ${types.join(", ")}`;
}

/** One row for neighbouring layers that are alike. */
function runs(layers: readonly LayerDescription[]): string[][] {
  const rows: { first: LayerName; last: LayerName; cells: string[] }[] = [];
  for (const layer of layers) {
    const cells = [layer.mixer, layer.kind, layerWidth(layer)];
    const before = rows.at(-1);
    if (before !== undefined && before.cells.join("\n") === cells.join("\n")) before.last = layer.layer;
    else rows.push({ first: layer.layer, last: layer.layer, cells });
  }
  return rows.map(({ first, last, cells }) => [first === last ? String(first) : `${first}-${last}`, ...cells]);
}

function layerWidth(layer: LayerDescription): string {
  if (layer.kind === "dense") return String(layer.hidden);
  const { experts, hidden, shared } = layer;
  const combine = { add: "added", average: "averaged with them", sigmoid: "times a sigmoid gate", softmax: "by a softmax gate" };
  return `${experts} x ${hidden}${shared === null ? "" : `, shared ${shared.hidden} ${combine[shared.combine]}`}`;
}
