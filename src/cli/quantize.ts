import { basename, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { quantize, type QuantizationReport } from "../inspect/quantize.js";
import { switchFamily } from "../model/families/switch.js";
import { type FileType, fileTypes, type TensorType } from "../model/stored-types.js";
import { formatBytes, type Paint } from "../train/log/format.js";
import { describeCommand, modelArgument, parseNumber, typeOption } from "./flags.js";
import { grouped, type Io, noteWritten, onInterrupt, printJson } from "./io.js";
import { table, terminal } from "./terminal.js";

interface QuantizeFlags {
  json?: boolean;
  type: Lowercase<FileType>;
  tensorType?: TensorType[];
  router: "f32";
  out?: string;
  calibrate?: string[];
  data?: string[];
  expertTokens?: number;
}

export function quantizeCommand(io: Io): Command {
  return describeCommand(new Command("quantize"), "Writes a model with weights of few bits, and a report of what that changed.", [
    "switchyard quantize OLMoE-1B-7B --type q4_k",
    "switchyard quantize OLMoE-1B-7B --type q3_k --calibrate text.txt --out olmoe-q3_k.gguf # errors where they cost least",
    "switchyard quantize runs/first --type q4_0 --data test.txt --out first-q4_0 # a folder; perplexity before and after",
  ])
    .argument(...modelArgument)
    .option("--out <target>", "what to write: a name with .gguf is a file, any other a folder (default: MODEL-TYPE.gguf in this folder)")
    .addOption(typeOption("type of the matrices; norms, biases and other vectors stay f32", fileTypes, "q4_k"))
    .option("--tensor-type <pattern=type>", "another type for the tensors whose names in the target fit a regular expression; may be repeated, the first that fits counts", addTensorType)
    .addOption(new Option("--router <name>", "type of the routers: a rounded router sends tokens to other experts").choices(["f32"]).default("f32"))
    .option("--calibrate <files...>", "text files, or folders of them, to learn from which errors cost most")
    .option("--expert-tokens <n>", "read on until every expert has seen so many tokens (default: 256)", parseNumber)
    .option("--data <files...>", "text to compare both models on (default: what calibration left of its own)")
    .action((model: string, flags: QuantizeFlags) => quantizeAction(io, model, flags));
}

/** "PATTERN=TYPE", as llama-quantize has it. */
function addTensorType(text: string, others: readonly TensorType[] = []): TensorType[] {
  const [, pattern, name] = /^(.+)=(.+)$/.exec(text) ?? [];
  const type = fileTypes.find((known) => known.toLowerCase() === name?.toLowerCase());
  if (pattern === undefined || type === undefined) throw new InvalidArgumentError(`Expected PATTERN=TYPE, such as experts.7.=q6_k, with one of the types ${fileTypes.join(", ").toLowerCase()}.`);
  try {
    return [...others, { tensors: new RegExp(pattern), type }];
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
}

async function quantizeAction(io: Io, source: string, flags: QuantizeFlags): Promise<void> {
  const { type, tensorType: tensorTypes, json, router: _, ...rest } = flags;
  const { out = `${basename(resolve(source)).replace(/\.gguf$/, "")}-${type}.gguf`, ...texts } = rest;
  using interrupt = onInterrupt(io);
  const onStep = (step: string) => io.stderr.write(`switchyard: ${step}\n`);
  const report = await quantize(source, out, { type: type.toUpperCase() as FileType, tensorTypes, ...texts, signal: interrupt.signal, ...(json === true ? {} : { onStep }) });
  if (json === true) printJson(io, report);
  else io.stdout.write(describeReport(report, terminal(io.stdout, io.env).paint));
  noteWritten(io, report);
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;

function describeReport(report: QuantizationReport, paint: Paint): string {
  const { target, modelType, parameters, bytes, bitsPerWeight, groups, fallbacks, calibration, drift, seconds } = report;
  const lines = [`${paint(target, "bold")}: ${grouped(parameters)} parameters, ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}, ${bitsPerWeight.toFixed(2)} bits per weight, ${seconds.toFixed(1)} s`, ""];
  const rows = groups.map((group) => [group.group, Object.entries(group.types).map(([type, n]) => `${type} x ${n}`).join(", "), grouped(group.parameters), group.bitsPerWeight.toFixed(2)]);
  lines.push(table(["tensors", "types", "parameters", "bits"], rows, paint));
  const [first] = fallbacks;
  if (first !== undefined) lines.push("", `${fallbacks.length === 1 ? "1 tensor has" : `${fallbacks.length} tensors have`} rows that are no whole blocks of their type, such as ${first.tensor}: ${first.type} for ${first.wanted}`);
  if (calibration !== null) lines.push("", ...describeCalibration(calibration));
  if (drift === null) return `${[...lines, "", modelType === switchFamily.modelType ? "Not compared: an encoder-decoder does not read plain text" : "Not compared: name a text with --data or --calibrate"].join("\n")}\n`;
  const { perplexity, klDivergence, sameTop, routers, tokens, text } = drift;
  const on = { data: "tokens of --data", "held out": "tokens that calibration has not read", calibration: "tokens that calibration has read" }[text];
  lines.push("", `On ${grouped(tokens)} ${on}: perplexity ${perplexity.before.toFixed(3)} -> ${paint(perplexity.after.toFixed(3), "cyan")}, KL divergence ${klDivergence.toPrecision(3)} nats, same most likely token ${percent(sameTop)}`);
  if (routers.length > 0) lines.push("", table(["layer", "same experts", "weight error"], routers.map((r) => [r.layer, percent(r.agreement), percent(r.weightError)]), paint));
  return `${lines.join("\n")}\n`;
}

function describeCalibration({ tokens, expertTokens, layers, rare, unseen }: NonNullable<QuantizationReport["calibration"]>): string[] {
  const names = (experts: readonly { layer: number; expert: number }[]) => experts.map(({ layer, expert }) => `${layer}.${expert}`).join(", ");
  const seen = layers.map(({ layer, tokens: counts }) => `layer ${layer}: ${Math.min(...counts)} to ${Math.max(...counts)}`);
  const lines = [`Calibrated on ${grouped(tokens)} tokens${layers.length === 0 ? "" : "; tokens per expert:"}`, ...seen.map((line) => `  ${line}`)];
  if (rare.length > 0) lines.push(`Fewer than ${expertTokens} tokens of the text reached these experts (layer.expert): ${names(rare)}`);
  if (unseen.length > 0) lines.push(`None reached these, which have their layer's average importance: ${names(unseen)}`);
  return lines;
}
