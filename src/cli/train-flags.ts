import { type Command, InvalidArgumentError, Option } from "commander";
import { check } from "../errors.js";
import type { MoeOptions } from "../model/presets.js";
import { balanceMethods } from "../routing/config.js";
import { routerPresets } from "../routing/presets.js";
import { trainSchema } from "../train/options.js";
import { addSchemaFlags, flagName, parseNotNegative, parsePositive, threadsOption } from "./flags.js";
import { checkRun, modelFields, moeSchema, type MoeShorthands, type RunInput, runSchema } from "./settings.js";

/** Fields of `moe` that are plain values, under the names that the field's tools give them. */
const moeFlags = {
  experts: "experts",
  active: "top-k",
  hidden: "expert-hidden",
  shared: "shared",
  sharedCombine: "shared-combine",
  zLoss: "z-loss",
} as const satisfies Partial<Record<keyof MoeOptions, string>>;
const { experts, active, hidden, shared, sharedCombine, zLoss } = moeSchema.shape;
const plainMoeFields = { experts, active, hidden, shared, sharedCombine, zLoss };

export interface TrainFlags extends Record<string, unknown>, MoeShorthands {
  json?: boolean;
  resume?: boolean;
  config?: string;
  dense?: boolean;
  layersSparse?: MoeOptions["layers"];
}

export function addTrainFlags(command: Command): void {
  command
    .optionsGroup("Run:")
    .option("--data <files...>", "text files, or folders of them")
    .option("-o, --out <dir>", "folder for the model, its checkpoints and logs")
    .option("--resume", "go on from the newest checkpoint in --out; options are remembered")
    .option("--config <file>", "YAML file with the options, under their names in the API; flags win")
    .option("--tokenizer <kind>", "bytes, chars, bpe, or a folder with a tokenizer.json (default: bytes for xs, else bpe)")
    .option(...threadsOption);
  addSchemaFlags(command, { ...modelFields, vocab: runSchema.shape.vocab }, "Model:");
  addSchemaFlags(command, plainMoeFields, "Experts:", moeFlags);
  command
    .option("--dense", "no experts: the dense model of the same size, whose work per token is the same")
    .addOption(new Option("--layers-sparse <which>", "all, every-other, or first-dense:N: all but the first N").argParser(parseLayers))
    .addOption(new Option("--router <name>", "router as in a published model").choices(Object.keys(routerPresets)))
    .addOption(new Option("--balance <name>", "how the experts' load is kept even (default: the router's)").choices([...balanceMethods]))
    .option("--aux-coeff <n>", "coefficient of the balancing loss", parseNotNegative)
    .option("--bias-rate <n>", "step of the selection bias of --balance loss-free", parsePositive)
    .option("--capacity-factor <n>", "room per expert, 1: an equal share; without it nothing is dropped", parsePositive);
  addSchemaFlags(command, trainSchema.omit({ context: true }).shape, "Training:", { learningRate: "lr, --learning-rate" });
}

function parseLayers(text: string): MoeOptions["layers"] {
  if (text === "all" || text === "every-other") return text;
  const n = /^first-dense:(\d+)$/.exec(text)?.[1];
  if (n === undefined) throw new InvalidArgumentError("Expected all, every-other or first-dense:N.");
  return { firstDense: Number(n) };
}

/** The flags under the API's names. Throws ERR_SWITCHYARD_USAGE naming the flag. */
export function flagsToRun(flags: TrainFlags): RunInput {
  const defined = (entries: [string, unknown][]) => Object.fromEntries(entries.filter(([, value]) => value !== undefined));
  const moe = defined([
    ...Object.entries(moeFlags).map(([key, flag]): [string, unknown] => [key, flags[camel(flag)]]),
    ["router", flags["router"]],
    ["balance", flags["balance"]],
    ["layers", flags.layersSparse],
  ]);
  const first = Object.keys(moe)[0];
  check(flags.dense !== true || first === undefined, "ERR_SWITCHYARD_USAGE", () => `train: --dense has no experts; remove it or ${nameOf(["moe", first as string])}`);
  const flat = defined(Object.keys(runSchema.shape).map((key) => [key, flags[key]]));
  return checkRun({ ...flat, ...(flags.dense === true ? { moe: false } : first === undefined ? {} : { moe }) }, "train", nameOf);
}

const camel = (flag: string): string => flag.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

function nameOf(path: readonly PropertyKey[]): string {
  const [first, second] = path.map(String);
  if (first !== "moe" || second === undefined) return `--${flagName(first ?? "")}`;
  return `--${(moeFlags as Record<string, string>)[second] ?? { layers: "layers-sparse" }[second] ?? second}`;
}
