import { Command } from "commander";
import { check } from "../errors.js";
import type { Chunk, TokenRoute } from "../generate/generate.js";
import { Model } from "../generate/model.js";
import { formatNumber } from "../train/log/format.js";
import { describeCommand, parseNumber } from "./flags.js";
import { type Io, printJson } from "./io.js";
import { RoutingView } from "./routing-view.js";
import { terminal } from "./terminal.js";

interface GenerateFlags {
  json?: boolean;
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  seed?: number;
  routing?: boolean;
  layer?: number;
}

export function generateCommand(io: Io): Command {
  return describeCommand(new Command("generate"), "Continues a prompt, and shows which experts took which token.", [
    'switchyard generate runs/first "Once upon a time"',
    'switchyard generate runs/first "Once" --max-tokens 50 --temperature 0 # always the most likely token',
    'switchyard generate runs/first "Once" --routing --layer 2 # coloured by the expert of layer 2',
    "cat start.txt | switchyard generate runs/first - --json --routing > routes.json",
  ])
    .argument("<dir>", "folder of a model")
    .argument("<prompt>", 'text to continue; "-" reads it from standard input')
    .option("--max-tokens <n>", "tokens to generate at most", parseNumber, 200)
    .option("--temperature <n>", "0: always the most likely token; 1: as the model believes", parseNumber, 0.8)
    .option("--top-k <n>", "choose among the n most likely tokens only", parseNumber)
    .option("--top-p <n>", "choose among the most likely tokens whose probabilities reach n", parseNumber)
    .option("--seed <n>", "seed of the choice", parseNumber, 1)
    .option("--routing", "show, or add to the JSON, the experts and weights of every token and layer")
    .option("--layer <n>", "layer whose experts colour the text (default: the middle sparse one)", parseNumber)
    .action((dir: string, prompt: string, flags: GenerateFlags) => generateAction(io, dir, prompt, flags));
}

async function generateAction(io: Io, dir: string, given: string, flags: GenerateFlags): Promise<void> {
  const { maxTokens = 200, json = false, routing: trace = false } = flags;
  check(Number.isInteger(maxTokens) && maxTokens >= 1, "ERR_SWITCHYARD_USAGE", () => `generate: --max-tokens: expected an integer of at least 1, got ${maxTokens}`);
  const prompt = given === "-" ? await readAll(io.stdin) : given;
  using model = await Model.load(dir);
  const { sparseLayers } = model.config;
  const layer = flags.layer ?? sparseLayers[Math.floor(sparseLayers.length / 2)];
  check(flags.layer === undefined || sparseLayers.includes(flags.layer), "ERR_SWITCHYARD_USAGE", () => `generate: --layer: expected one of the sparse layers ${sparseLayers.join(", ") || "(there are none)"}, got ${flags.layer}`);
  check(!trace || layer !== undefined, "ERR_SWITCHYARD_USAGE", () => `generate: --routing: ${dir} is a dense model, it has no experts`);

  const out = terminal(io.stdout, io.env);
  const view = !json && trace && layer !== undefined ? new RoutingView(model, layer, out) : undefined;
  const print = json ? () => undefined : (text: string) => void io.stdout.write(text);
  const chunks: Chunk[] = [];
  const routes: TokenRoute[] = [];
  const started = performance.now();
  // The prompt is printed once it has turned out to be one.
  const start = () => chunks.length === 0 && view === undefined && print(out.paint(prompt, "dim"));
  for await (const chunk of model.generate(prompt, { maxTokens, trace, seed: flags.seed ?? 1, ...sampling(flags) })) {
    start();
    chunks.push(chunk);
    for (const route of chunk.routing ?? []) {
      routes.push(route);
      print(view?.token(route) ?? "");
    }
    if (view === undefined) print(chunk.text);
  }
  start();
  const seconds = (performance.now() - started) / 1e3;
  const text = chunks.map((chunk) => chunk.text).join("");
  const tokensPerSecond = chunks.length / seconds;
  if (json) {
    const ids = chunks.map(({ token }) => token);
    printJson(io, { prompt, text, tokens: ids.length, tokensPerSecond, seconds, ids, finish: chunks.length === maxTokens ? "length" : "stop", ...(trace ? { routing: routes } : {}) });
    return;
  }
  // The last token was chosen, but not run: it has no experts yet.
  if (view !== undefined) print(`${view.unrouted(chunks.at(-1)?.token)}\n\n${view.legend()}`);
  print("\n");
  io.stderr.write(`${out.paint(`${chunks.length} tokens, ${formatNumber(tokensPerSecond)} tokens/s`, "dim")}\n`);
}

function sampling({ temperature = 0.8, topK, topP }: GenerateFlags): { temperature: number; topK?: number; topP?: number } {
  return { temperature, ...(topK === undefined ? {} : { topK }), ...(topP === undefined ? {} : { topP }) };
}

async function readAll(stream: AsyncIterable<string | Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString("utf8");
}
