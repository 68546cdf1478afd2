/**
 * Does cost follow active, not total, parameters? A training step and the decoding of one token with 64 experts beside 8.
 * npm run bench scaling -- [--steps 8] [--tokens 100] [--no-peer] [--json]
 *
 * Shape S (width 256, 6 layers, 8 heads, experts of width 256, top-4, vocabulary 4,096, context 256, batch 8). Decoding is
 * `generate` with its cache, at the same shape but for the byte vocabulary.
 */
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import type { Engine } from "../src/engine/engine.js";
import { generate } from "../src/generate/generate.js";
import { LanguageModel } from "../src/model/language-model.js";
import { byteTokenizer } from "../src/tokenizer/bytes.js";
import { type BenchResult, interleave, machine, median, round } from "./bench.js";
import { baselineScript, torchBaseline } from "./peers/torch/torch.js";
import { shapes, subject } from "./tasks/subject.js";

const target = { step: 1.25, token: 1.1 };

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({
    args,
    options: { steps: { type: "string", default: "8" }, tokens: { type: "string", default: "100" }, "no-peer": { type: "boolean", default: false } },
  });
  const engine = loadEngine();
  const load = machine(engine);
  const steps = Number(values.steps);
  const step = trainingSteps(engine, steps);
  const token = await decodedTokens(engine, Number(values.tokens));
  const torch = values["no-peer"] ? undefined : torchSteps(steps);
  const row = (what: string, [a, b]: readonly [number, number], wanted: number | null) => ({
    what,
    "ms, 8 experts": round(a * 1e3, 2),
    "ms, 64 experts": round(b * 1e3, 2),
    ratio: round(b / a, 3),
    "at most": wanted,
  });
  return {
    name: "scaling",
    unit: "times a training step with 8 experts (lower is better)",
    ours: step[1] / step[0],
    peer: torch === undefined ? null : torch[1] / torch[0],
    ratio: torch === undefined ? null : step[1] / step[0] / (torch[1] / torch[0]),
    peak: null,
    machine: load,
    rows: [row("training step", step, target.step), row("decoded token", token, target.token), ...(torch === undefined ? [] : [row("PyTorch, loop over experts: training step", torch, null)])],
  };
}

/** Median seconds of a training step with few and with many experts. */
function trainingSteps(engine: Engine, repetitions: number): [number, number] {
  const subjects = [subject(shapes.s8, "f32", engine), subject(shapes.s64, "f32", engine)];
  const steps = subjects.map(({ trainer, next }) => () => void trainer.train(next));
  interleave(steps, 2);
  const seconds = interleave(steps, repetitions).map(median) as [number, number];
  for (const { trainer } of subjects) {
    trainer[Symbol.dispose]();
    trainer.model[Symbol.dispose]();
  }
  return seconds;
}

/** Seconds of the same steps in PyTorch; undefined where it cannot be run. */
function torchSteps(steps: number): [number, number] | undefined {
  const script = baselineScript();
  if (script === undefined) return undefined;
  const runs = [shapes.s8, shapes.s64].flatMap((shape) => torchBaseline(script, { ...shape, steps }, ["loop"], false));
  const [few, many] = runs.map(({ tokensPerSecond }) => (shapes.s.batch * shapes.s.ctx) / tokensPerSecond);
  return few === undefined || many === undefined ? undefined : [few, many];
}

/** Median seconds per token of `generate` after a short prompt, a token of each model in turn. */
async function decodedTokens(engine: Engine, count: number): Promise<[number, number]> {
  const tokenizer = byteTokenizer();
  const models = [shapes.s8, shapes.s64].map(({ hidden: width, layers, heads, ctx: context, experts, topk: active, inter }) =>
    LanguageModel.create({ vocab: tokenizer.vocabSize, width, layers, heads, context, moe: { experts, active, hidden: inter }, seed: 1, engine, tokenizer }),
  );
  const streams = models.map((model) => generate(model, "The quick brown fox jumps over the lazy dog", { maxTokens: count, temperature: 1, seed: 1 }));
  for (const stream of streams) await stream.next(); // the prompt
  const seconds: [number[], number[]] = [[], []];
  for (let n = 1; n < count; n++) {
    for (const [i, stream] of streams.entries()) {
      const start = performance.now();
      if ((await stream.next()).done !== true) seconds[i]?.push((performance.now() - start) / 1e3);
    }
  }
  for (const stream of streams) await stream.return(undefined);
  for (const model of models) model[Symbol.dispose]();
  return [median(seconds[0]), median(seconds[1])];
}
