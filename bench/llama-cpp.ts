/**
 * Do GGUF files written here give the same greedy text in llama.cpp?
 * npm run bench llama-cpp -- [--only NAME,NAME] [--types F32,F16,Q8_0] [--json]
 *
 * Two models trained for a few steps, and every golden checkpoint beside the checkout (../shared/goldens, or $SWITCHYARD_GOLDENS) whose family
 * has an architecture of GGUF, written in each type. The same file is then run here and in llama.cpp, which keeps its cache in f32 for this.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import { generate } from "../src/generate/generate.js";
import { readGolden } from "../src/inspect/golden.js";
import { writeModelGguf } from "../src/model/gguf-file.js";
import type { FileType } from "../src/model/stored-types.js";
import { LanguageModel } from "../src/model/language-model.js";
import { modelConfig } from "../src/model/presets.js";
import { byteVocabulary } from "../src/model/random-gguf.js";
import { train } from "../src/train/train.js";
import { type BenchResult, machine } from "./bench.js";
import { llamaGreedy } from "./peers/llama-cpp/llama-cpp.js";

const count = 24;

/** Where llama.cpp computes something else than the published model, or cannot load it, whoever wrote the file. */
const otherwise: Readonly<Record<string, string>> = {
  afmoe: "always multiplies the embeddings by sqrt(D), which this checkpoint does not",
  deepseek_v2: "has no groups by the largest score",
  deepseek_v2_lite: "takes a model for the one without query compression by its 27 layers",
  dots1: "expects as many heads of keys as of queries",
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
  const rows: Record<string, string | number | null>[] = [];
  for (const [name, open] of [...trained(), ...goldens()]) {
    if (values.only !== undefined && !values.only.split(",").includes(name)) continue;
    const row: Record<string, string | number | null> = { name };
    try {
      using model = await open();
      const prompt = model.prompt;
      for (const type of types) {
        const file = join(folder, `${type}.gguf`);
        await writeModelGguf(file, model.config, model.parameters, { type, vocabulary: new Map(byteVocabulary(model.config.vocab)) });
        row[type] = await compare(file, prompt);
        rmSync(file);
      }
      row["llama.cpp"] = otherwise[name] ?? "";
    } catch (error) {
      row["llama.cpp"] = (error as Error).message.slice(0, 120);
    }
    rows.push(row);
  }
  rmSync(folder, { recursive: true });
  const written = rows.filter((row) => types.some((type) => row[type] !== undefined) && !(String(row["name"]) in otherwise));
  const agreeing = written.filter((row) => types.every((type) => row[type] === "same")).length;
  return { name: "llama-cpp", unit: "models with the same greedy text in every type", ours: agreeing, peer: written.length, ratio: agreeing / written.length, peak: null, machine: about, rows, note: `${count} tokens; the last column says where llama.cpp is known to compute something else: those models do not count.` };
}

async function compare(file: string, prompt: readonly number[]): Promise<string> {
  using model = await LanguageModel.load(file);
  const ours: number[] = [];
  for await (const { token } of generate(model, Int32Array.from(prompt), { maxTokens: count, temperature: 0 })) ours.push(token);
  const theirs = llamaGreedy(file, prompt, count);
  if ("error" in theirs) return theirs.error.slice(0, 80);
  const same = ours.findIndex((id, i) => id !== theirs.ids[i]);
  return same < 0 ? "same" : `same for ${same}`;
}

type Subject = LanguageModel & { prompt: readonly number[] };

/** Models that `train` made, saved as Mixtral and as OLMoE: of layers of both kinds llama.cpp's qwen3moe has none. */
function trained(): [string, () => Promise<Subject>][] {
  const text = Uint16Array.from({ length: 8000 }, (_, i) => (i * i) % 251);
  return (["mixtral", "olmoe"] as const).map((router) => [
    `trained: ${router}`,
    async () => {
      const model = LanguageModel.create({ config: modelConfig({ vocab: 256, width: 64, layers: 4, heads: 4, context: 128, hidden: 128, moe: { router, hidden: 64 } }), seed: 1 });
      for await (const _ of train(model, { data: text, steps: 60, batch: 4, learningRate: 0.01, validation: 0.1, evalEvery: 0 }));
      return Object.assign(model, { prompt: [...text.subarray(100, 116)] });
    },
  ]);
}

function goldens(): [string, () => Promise<Subject>][] {
  const folder = process.env["SWITCHYARD_GOLDENS"] ?? fileURLToPath(new URL("../../../../shared/goldens", import.meta.url));
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => existsSync(join(folder, name, "golden.json")));
  return names.map((name) => [name, async () => Object.assign(await LanguageModel.load(join(folder, name)), { prompt: readGolden(join(folder, name)).greedy?.prompt ?? [1, 2, 3] })]);
}
