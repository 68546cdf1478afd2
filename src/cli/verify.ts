import { Command, InvalidArgumentError } from "commander";
import { loadTokens } from "../data/index.js";
import { check } from "../errors.js";
import { openGguf } from "../formats/gguf/open.js";
import { openModel } from "../inspect/open.js";
import { randomInputs, recordGolden } from "../inspect/record.js";
import { type Inputs, type Subject, subjectOf } from "../inspect/subject.js";
import { defaultTolerances, type Verification, verify } from "../inspect/verify.js";
import { isGguf } from "../model/gguf-file.js";
import { ggufTokenizer } from "../tokenizer/gguf.js";
import { loadTokenizer } from "../tokenizer/load.js";
import { describeCommand, parseNumber } from "./flags.js";
import { type Io, printJson, quote } from "./io.js";
import { table, terminal } from "./terminal.js";

interface VerifyFlags {
  json?: boolean;
  golden?: string;
  tolerance?: number;
  record?: string;
  ids?: number[][];
  data?: string[];
  tokens?: number;
}

export function verifyCommand(io: Io): Command {
  return describeCommand(new Command("verify"), "Compares what a checkpoint computes here with what a reference implementation computed: logits, experts and weights of every layer, greedy continuation.", [
    "switchyard verify Mixtral-8x7B --golden mixtral-golden",
    "switchyard verify Mixtral-8x7B --golden mixtral_c5_ref.json --json # the tensors beside it in mixtral_c5_ref.safetensors",
    "switchyard verify runs/first --record first-golden --data test.txt # writes one, e.g. to check another machine by",
  ])
    .argument("<checkpoint>", "folder of a model, or a .gguf file")
    .option("--golden <dir>", "folder with golden.json and golden.safetensors, or the .json of such a pair")
    .option("--tolerance <n>", `largest error, relative to the largest value (default: ${defaultTolerances.usual}, for recurrent families ${defaultTolerances.recurrent})`, parseNumber)
    .option("--record <dir>", "write a golden instead; of random tokens, or of:")
    .option("--ids <list>", "token ids separated by commas, e.g. 1,100,200; given several times, sequences of one length", addIds)
    .option("--data <files...>", "the first tokens of text files")
    .option("--tokens <n>", "how many of them (default: 40)", parseNumber)
    .action((checkpoint: string, flags: VerifyFlags) => verifyAction(io, checkpoint, flags));
}

async function verifyAction(io: Io, checkpoint: string, flags: VerifyFlags): Promise<void> {
  const { json = false, golden, tolerance, record } = flags;
  const usage = (condition: boolean, message: string) => check(condition, "ERR_SWITCHYARD_USAGE", () => `verify: ${message}`);
  usage((golden === undefined) !== (record === undefined), "name a golden to compare with (--golden), or a folder to write one to (--record)");
  usage(record !== undefined || [flags.ids, flags.data, flags.tokens].every((flag) => flag === undefined), "--ids, --data and --tokens are for --record; a golden has its own token ids");
  usage(flags.ids === undefined || flags.data === undefined, "--ids or --data, not both");
  usage(tolerance === undefined || record === undefined, "--tolerance is for --golden");
  if (record !== undefined) {
    using model = await openModel(checkpoint);
    const subject = subjectOf(model);
    await recordGolden(subject, record, inputsToRecord(subject, checkpoint, flags));
    if (json) printJson(io, { recorded: record });
    else io.stdout.write(`${record}: written; compare with it by: npx switchyard verify ${quote(checkpoint)} --golden ${quote(record)}\n`);
    return;
  }
  const verification = await verify(checkpoint, golden as string, { tolerance });
  if (json) printJson(io, verification);
  else io.stdout.write(describe(io, verification));
  io.exitCode = verification.pass ? 0 : 1;
}

/** "1,100,200" -> [1, 100, 200] beside those before. */
function addIds(text: string, before: number[][] = []): number[][] {
  if (!/^\d+(,\d+)*$/.test(text)) throw new InvalidArgumentError('Expected token ids, as in "1,100,200".');
  return [...before, text.split(",").map(Number)];
}

function inputsToRecord(subject: Subject, checkpoint: string, { ids, data, tokens }: VerifyFlags): Inputs {
  const { context, decoderStart } = subject;
  check(data !== undefined || tokens === undefined, "ERR_SWITCHYARD_USAGE", () => "verify: --tokens says how many of --data are recorded; give a text with --data");
  if (ids === undefined && data === undefined) return randomInputs(subject, 0);
  const rows = ids ?? [textIds(checkpoint, data ?? [], context, tokens)];
  return { ids: rows, ...(decoderStart === undefined ? {} : { decoderIds: rows.map(() => [decoderStart]) }) };
}

/** The first tokens of a text. */
function textIds(checkpoint: string, data: readonly string[], context: number, tokens = 40): number[] {
  check(Number.isInteger(tokens) && tokens >= 1 && tokens <= context, "ERR_SWITCHYARD_USAGE", () => `verify: --tokens: expected an integer from 1 to the model's context of ${context}, got ${tokens}`);
  const tokenizer = isGguf(checkpoint) ? ggufTokenizer(openGguf(checkpoint).metadata) : loadTokenizer(checkpoint);
  check(tokenizer !== undefined, "ERR_SWITCHYARD_CHECKPOINT", () => `verify: ${checkpoint} has no tokenizer.json, so text cannot be read; give token ids with --ids`);
  return [...tokenizer.prefix, ...loadTokens(data, tokenizer)].slice(0, tokens);
}

function describe(io: Io, { pass, logits, routing, greedy, tolerance, blocks }: Verification): string {
  const { paint } = terminal(io.stdout, io.env);
  const number = (error: number | null | undefined) => (error === null || error === undefined ? "-" : paint(error.toExponential(1), error <= tolerance ? "green" : "red"));
  const rows = [...new Set([...routing.layers, ...blocks].map(({ layer }) => layer))].map((layer) => {
    const { agreement, weightError } = routing.layers.find((l) => l.layer === layer) ?? {};
    const block = blocks.find((b) => b.layer === layer);
    const same = agreement === undefined ? "-" : paint(`${(100 * agreement).toFixed(agreement === 1 ? 0 : 2)}%`, agreement === 1 ? "green" : "red");
    return [String(layer), same, number(weightError), number(block?.routerError), number(block?.relativeError)];
  });
  const lines = [
    `logits  ${number(logits.relativeError)}`,
    `greedy  ${greedy.match === null ? "-" : greedy.match ? paint("the same", "green") : paint("another text", "red")}`,
    ...(rows.length === 0 ? [] : ["", table(["layer", "same experts", "weights", "router alone", "block alone"], rows, paint)]),
    "",
    `${pass ? paint("pass", "green") : paint("MISS", "red")}: errors relative to the largest value, at most ${Number(tolerance.toPrecision(2)).toExponential()} allowed`,
  ];
  return `${lines.join("\n")}\n`;
}
