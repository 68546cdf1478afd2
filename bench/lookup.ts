/**
 * How much sooner do tokens come when n-gram look-up guesses ahead, on text that repeats itself?
 * npm run bench lookup -- [--model FOLDER|FILE --text FILE] [--lookup 8] [--prompts 40] [--prompt-tokens 256] [--tokens 200] [--json]
 *                         [--size xs] [--data FILE --data FILE...] [--steps 1200]
 *
 * Without a model: one of the size learns the data, Node's TypeScript declarations if not said otherwise, byte by byte, and continues pieces of the held-out
 * tenth, each greedily with and without guesses in turn. The tokens must be the same.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadTokens, splitTokens, type Tokens } from "../src/data/index.js";
import { loadEngine } from "../src/engine/load.js";
import { generate } from "../src/generate/generate.js";
import { Model } from "../src/generate/model.js";
import { modelConfig, type Size } from "../src/model/presets.js";
import { byteTokenizer } from "../src/tokenizer/bytes.js";
import { train } from "../src/train/train.js";
import { type BenchResult, machine, median } from "./bench.js";

/** Declarations to learn from, in the checkout. */
function declarations(): string[] {
  const folder = "node_modules/@types/node";
  return readdirSync(folder).filter((name) => name.endsWith(".d.ts")).map((name) => join(folder, name));
}

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: "string" }, text: { type: "string" }, lookup: { type: "string", default: "8" }, prompts: { type: "string", default: "40" },
      "prompt-tokens": { type: "string", default: "256" }, tokens: { type: "string", default: "200" },
      size: { type: "string", default: "xs" }, data: { type: "string", multiple: true }, steps: { type: "string", default: "1200" },
    },
  });
  const about = machine(loadEngine());
  const { model, text } = values.model === undefined ? await trained(values.size as Size, values.data ?? declarations(), Number(values.steps)) : await given(values.model, values.text);
  const [lookup, count, length] = [Number(values.lookup), Number(values.prompts), Number(values["prompt-tokens"])];
  const rows: BenchResult["rows"] = [];
  const promptAt = (i: number) => Int32Array.from(text.subarray(Math.floor((i * (text.length - length)) / count)).subarray(0, length));
  for (let i = 0; i < 20; i++) await timed(model, promptAt(0), Number(values.tokens), i % 2 === 0 ? 0 : lookup); // until V8 has compiled it
  for (let i = 0; i < count; i++) {
    const prompt = promptAt(i);
    const runs = { plain: [] as Run[], guessed: [] as Run[] };
    for (let round = 0; round < 3; round++) {
      runs.plain.push(await timed(model, prompt, Number(values.tokens), 0));
      runs.guessed.push(await timed(model, prompt, Number(values.tokens), lookup));
    }
    const [plain, guessed] = [runs.plain, runs.guessed].map((list) => median(list.map(({ rate }) => rate))) as [number, number];
    const same = runs.guessed.every(({ ids }) => ids.join() === runs.plain[0]?.ids.join());
    rows.push({ prompt: i, "tokens/s": Math.round(plain), "with guesses": Math.round(guessed), ratio: Math.round((100 * guessed) / plain) / 100, "same tokens": same ? "yes" : "NO" });
  }
  model[Symbol.dispose]();
  const [peer, ours] = ["tokens/s", "with guesses"].map((key) => median(rows.map((row) => row[key] as number))) as [number, number];
  const ratio = median(rows.map((row) => row["ratio"] as number));
  return { name: "lookup", unit: "tokens/s", ours, peer, ratio, peak: null, machine: about, rows, note: `medians over the prompts; peer: without guesses, up to ${lookup} are made` };
}

interface Run {
  ids: number[];
  /** Tokens per second after the first one, which the prompt takes. */
  rate: number;
}

async function timed(model: Model, prompt: Int32Array, maxTokens: number, lookup: number): Promise<Run> {
  const ids: number[] = [];
  let first = 0;
  for await (const { token } of generate(model, prompt, { maxTokens, temperature: 0, lookup })) {
    if (ids.push(token) === 1) first = performance.now();
  }
  return { ids, rate: (1e3 * (ids.length - 1)) / (performance.now() - first) };
}

async function given(path: string, file: string | undefined): Promise<{ model: Model; text: Tokens }> {
  const model = await Model.load(path);
  if (model.tokenizer === undefined || file === undefined) throw new Error("bench lookup: --model needs a model with a tokenizer, and --text FILE to take prompts from");
  return { model, text: loadTokens([file], model.tokenizer) };
}

async function trained(size: Size, data: string[], steps: number): Promise<{ model: Model; text: Tokens }> {
  const tokenizer = byteTokenizer();
  const tokens = loadTokens(data, tokenizer);
  const model = Model.create({ config: modelConfig({ size, vocab: tokenizer.vocabSize, context: 512 }), tokenizer, seed: 1 });
  for await (const _ of train(model, { data: tokens, steps, batch: 8, learningRate: 1e-3, evalEvery: 0, order: "random", seed: 1 }));
  return { model, text: splitTokens(tokens, 0.1).validation };
}
