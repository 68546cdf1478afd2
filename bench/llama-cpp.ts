/**
 * Do GGUF files written here give the same greedy text in llama.cpp?
 * npm run bench llama-cpp -- [--only NAME,"trained: NAME"] [--types F32,F16,Q8_0] [--json]
 *
 * Two models of our own, every golden checkpoint beside the checkout (../shared/goldens, or $SWITCHYARD_GOLDENS) whose family has an architecture
 * of GGUF, and a new model of each golden's configuration ("trained: NAME"), trained for a few steps, written in each type. The same file is then
 * run here and in llama.cpp on several prompts, both with f32 caches, and without llama.cpp's flash attention, which rounds to f16. Where texts part,
 * as those of random weights do at near ties, the table says by how much our token is ahead there, in deviations of the logits.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import { loadEngine } from "../src/engine/load.js";
import { generate } from "../src/generate/generate.js";
import { type JsonObject, readJsonFile } from "../src/formats/json.js";
import { readGolden } from "../src/inspect/golden.js";
import type { ModelConfig } from "../src/model/config.js";
import { readHfConfig } from "../src/model/families/hf-config.js";
import { writeModelGguf } from "../src/model/gguf-file.js";
import type { FileType } from "../src/model/stored-types.js";
import { LanguageModel } from "../src/model/language-model.js";
import { modelConfig } from "../src/model/presets.js";
import { byteVocabulary } from "../src/model/random-gguf.js";
import { forward, logits } from "../src/model/transformer.js";
import { train } from "../src/train/train.js";
import { type BenchResult, machine } from "./bench.js";
import { llamaGreedy } from "./peers/llama-cpp/llama-cpp.js";
import { transformersTrained } from "./peers/transformers/transformers.js";
import { goldenFolders } from "./tasks/goldens.js";

const count = 24;
const prompts = 8;
const steps = 120;

/** What is changed in a golden's configuration before training, to what llama.cpp has. */
const within: Readonly<Record<string, JsonObject>> = {
  afmoe: { mup_enabled: true },
  deepseek_v2: { topk_method: "greedy" },
  deepseek_v32: { index_head_dim: 64, index_n_heads: 16 },
  llama4: { attention_chunk_size: 8192 },
};

/** Where llama.cpp computes something else than the published model, or cannot load it, whoever wrote the file. */
const otherwise: Readonly<Record<string, string>> = {
  afmoe: "always multiplies the embeddings by sqrt(D), which this checkpoint does not",
  deepseek_v2: "has no groups by the largest score",
  deepseek_v2_lite: "takes a model for the one without query compression by its 27 layers",
  gpt_oss: "rounds the range of YaRN to whole dimensions, which this checkpoint does not",
  llama4: "has one size of chunks, 8192",
  mixtral_swa: "has no window in its llama",
  phimoe: "takes a softmax of the two chosen scores instead of sparsemixer",
  qwen2_moe_sparse: "has no dense layers in qwen2moe",
};

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({ args, options: { only: { type: "string" }, types: { type: "string", default: "F32,F16,Q8_0" } } });
  const about = machine(loadEngine());
  const folder = mkdtempSync(join(tmpdir(), "switchyard-llama-cpp-"));
  const types = values.types.split(",") as FileType[];
  let total = { same: 0, texts: 0 };
  const rows: Record<string, string | number | null>[] = [];
  for (const [name, open] of [...presets(), ...goldens()]) {
    if (values.only !== undefined && !values.only.split(",").includes(name)) continue;
    const row: Record<string, string | number | null> = { name };
    try {
      using model = await open();
      const inputs = [...model.prompts, ...Array.from({ length: prompts - model.prompts.length }, (_, p) => randomPrompt(p, model.config.vocab))];
      const files = types.map((type) => join(folder, `${type}.gguf`));
      for (const [i, type] of types.entries()) await writeModelGguf(files[i] as string, model.config, model.parameters, { type, vocabulary: byteVocabulary(model.config.vocab) });
      const theirs = llamaGreedy(files, inputs, count);
      for (const [i, type] of types.entries()) {
        const { same, parted } = await compare(files[i] as string, inputs, theirs[i] as number[][]);
        row[type] = `${same} of ${prompts}${parted.length === 0 ? "" : `, parting by ${parted.map((margin) => margin.toPrecision(2)).join(" ")}`}`;
        if (!(name in otherwise)) total = { same: total.same + same, texts: total.texts + prompts };
      }
      row["llama.cpp"] = otherwise[name] ?? "";
    } catch (error) {
      row["llama.cpp"] = (error as Error).message.slice(0, 120);
    }
    rows.push(row);
  }
  rmSync(folder, { recursive: true });
  return { name: "llama-cpp", unit: "texts that are the same", ours: total.same, peer: total.texts, ratio: total.same / total.texts, peak: null, machine: about, rows, note: `${count} tokens; the last column says where llama.cpp is known to compute something else: those models do not count.` };
}

const randomPrompt = (seed: number, vocab: number): number[] => Array.from({ length: 10 }, (_, i) => 3 + ((seed * 7919 + i * i * 31 + i * 1009) % (vocab - 3)));

/** Texts that are the same, and for the others by how much more likely our token is than llama.cpp's where they part. */
async function compare(file: string, inputs: readonly (readonly number[])[], theirs: readonly (readonly number[])[]): Promise<{ same: number; parted: number[] }> {
  using model = await LanguageModel.load(file);
  const ours = inputs.map((): number[] => []);
  for await (const { sequence, token } of generate(model, inputs.map((prompt) => Int32Array.from(prompt)), { maxTokens: count, temperature: 0, kv: "f32" })) ours[sequence]?.push(token);
  const parted = inputs.flatMap((prompt, p) => {
    const [answer, other] = [ours[p] as number[], theirs[p] as number[]];
    const first = answer.findIndex((id, i) => id !== other[i]);
    return first < 0 ? [] : [lead(model, [...prompt, ...answer.slice(0, first)], answer[first] as number, other[first] ?? 0)];
  });
  return { same: inputs.length - parted.length, parted };
}

/** How much larger the logit of `token` is than that of `other`, in deviations of all. */
function lead(model: LanguageModel, ids: readonly number[], token: number, other: number): number {
  using arena = new Arena(model.engine, 2 ** 24);
  const tape = new Tape(model.engine, arena);
  const all = logits(tape, model, forward(tape, model, { ids: tape.constant([ids.length], Int32Array.from(ids), "i32"), batch: 1 }).hidden);
  const last = Float64Array.from(model.engine.read(all)).subarray(-model.config.vocab);
  const mean = last.reduce((sum, x) => sum + x, 0) / last.length;
  const deviation = Math.sqrt(last.reduce((sum, x) => sum + (x - mean) ** 2, 0) / last.length);
  return ((last[token] as number) - (last[other] as number)) / deviation;
}

type Subject = LanguageModel & { prompts: readonly (readonly number[])[] };

/** What the trained models learn: two tokens decide the next, one does not. */
const text = Uint16Array.from({ length: 8000 }, (_, i) => (i * i) % 251);

/** A model that is sure of what follows: at near ties rounding decides, and tells nothing. */
async function trained(config: ModelConfig): Promise<Subject> {
  const model = LanguageModel.create({ config, seed: 1 });
  for await (const _ of train(model, { data: text, steps, batch: 8, context: 48, learningRate: 0.01, validation: 0.1, evalEvery: 0 }));
  return withPrompts(model);
}

const withPrompts = (model: LanguageModel): Subject => Object.assign(model, { prompts: Array.from({ length: prompts }, (_, p) => [...text.subarray(100 + 16 * p, 116 + 16 * p)]) });

/** A new model of a golden's configuration, trained; by PyTorch where a part of it has no backward pass here. */
async function trainedAs(golden: string, name: string): Promise<Subject> {
  const changes = within[name] ?? {};
  const { config } = readHfConfig({ ...(readJsonFile(join(golden, "config.json")) as JsonObject), ...changes }, name);
  if (config.moe?.bias !== true && config.mixers.every((mixer) => mixer.kind === "attention" || (mixer.kind === "latent" && mixer.index === undefined))) return trained(config);
  const folder = mkdtempSync(join(tmpdir(), "switchyard-trained-"));
  try {
    transformersTrained(golden, folder, { changes, text: [...text.subarray(0, 2000)], steps });
    return withPrompts(await LanguageModel.load(folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Models of our own, saved as Mixtral and as OLMoE: of layers of both kinds llama.cpp's qwen3moe has none. */
function presets(): [string, () => Promise<Subject>][] {
  return (["mixtral", "olmoe"] as const).map((router) => [
    `trained: ${router} preset`,
    () => trained(modelConfig({ vocab: 256, width: 64, layers: 4, heads: 4, context: 128, hidden: 128, moe: { router, hidden: 64 } })),
  ]);
}

/** The golden checkpoints, and new ones of their configurations, trained. */
function goldens(): [string, () => Promise<Subject>][] {
  return goldenFolders().flatMap(([name, folder]): [string, () => Promise<Subject>][] => [
    [name, async () => Object.assign(await LanguageModel.load(folder), { prompts: [readGolden(folder).greedy?.prompt ?? [1, 2, 3]] })],
    [`trained: ${name}`, () => trainedAs(folder, name)],
  ]);
}
