import { Command } from "commander";
import { check } from "../errors.js";
import { overLayers } from "../routing/statistics.js";
import { evaluate, type Evaluation } from "../train/evaluate.js";
import { loadBar } from "../train/log/format.js";
import { describeCommand, memoryOption, modelArgument, parseNumber, threadsOption } from "./flags.js";
import { grouped, type Io, printJson } from "./io.js";
import { loadModel } from "./load-model.js";
import { table, terminal } from "./terminal.js";

interface EvalFlags {
  json?: boolean;
  data?: string[];
  context?: number;
  batch?: number;
  memory?: number;
}

export function evalCommand(io: Io): Command {
  return describeCommand(new Command("eval"), "Loss, perplexity and expert load of a model on text.", [
    "switchyard eval runs/first --data test.txt",
    "switchyard eval runs/first --data a.txt b.txt --json",
    "switchyard eval runs/first --data short.txt --context 32 # shorter windows for a short text",
  ])
    .argument(...modelArgument)
    .option("--data <files...>", "text files, or folders of them")
    .option("--context <n>", "tokens per window (default: the model's context)", parseNumber)
    .option("--batch <n>", "windows at a time (default: 16, or as many as have 8,192 tokens)", parseNumber)
    .option(...memoryOption)
    .option(...threadsOption)
    .action((dir: string, flags: EvalFlags) => evalAction(io, dir, flags));
}

async function evalAction(io: Io, dir: string, { data, json, context, batch, memory }: EvalFlags): Promise<void> {
  check(data !== undefined, "ERR_SWITCHYARD_USAGE", () => "eval: no data; name text files or folders with --data");
  using model = await loadModel(io, dir, { memory, json });
  check(model.tokenizer !== undefined, "ERR_SWITCHYARD_CHECKPOINT", () => `eval: ${dir} has no tokenizer, so text cannot be read`);
  const started = performance.now();
  const evaluation = await evaluate(model, { data, context, batch });
  const seconds = (performance.now() - started) / 1e3;
  if (json !== true) {
    io.stdout.write(describeEvaluation(io, evaluation));
    return;
  }
  const { routing: layers, ...rest } = evaluation;
  const maxvio = overLayers(layers, (layer) => layer.maxvio);
  const routing = { maxvio: maxvio === undefined ? null : { mean: maxvio.mean, worst: maxvio.worst }, dead: layers.reduce((sum, { dead }) => sum + dead, 0), layers };
  printJson(io, { ...rest, context: context ?? model.config.context, seconds, tokensPerSecond: evaluation.tokens / seconds, routing });
}

function describeEvaluation(io: Io, { loss, perplexity, tokens, routing }: Evaluation): string {
  const { paint } = terminal(io.stdout, io.env);
  const lines = [`loss ${paint(loss.toFixed(4), "cyan")}, perplexity ${paint(perplexity.toFixed(2), "cyan")} over ${grouped(tokens)} tokens`];
  if (routing.length > 0) {
    const rows = routing.map((r) => [String(r.layer), loadBar(r.load, paint), r.maxvio.toFixed(2), r.cv.toFixed(2), r.load_entropy.toFixed(3), r.dead, `${(100 * r.dropped).toFixed(1)}%`]);
    lines.push("", table(["layer", "load", "maxvio", "cv", "entropy", "dead", "dropped"], rows, paint));
  }
  return `${lines.join("\n")}\n`;
}
