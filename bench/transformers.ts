/**
 * Do models saved here give the same logits in transformers?
 * npm run bench transformers -- [--only NAME,NAME] [--keep DIR] [--json]
 *
 * Models trained for a few steps with every router that a published family expresses, and every golden checkpoint beside the checkout
 * (../shared/goldens, or $SWITCHYARD_GOLDENS) loaded and saved again. Ours are f32 logits of the native engine; transformers computes in
 * float64 and float32. Wanted: at most 1e-5 of the largest logit, or twice what transformers itself loses in float32.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import { readGolden } from "../src/inspect/golden.js";
import { openModel } from "../src/inspect/open.js";
import { randomInputs, recordGolden } from "../src/inspect/record.js";
import { subjectOf } from "../src/inspect/subject.js";
import { LanguageModel } from "../src/model/language-model.js";
import { type MoeOptions, modelConfig } from "../src/model/presets.js";
import { routerConfig } from "../src/routing/presets.js";
import { train } from "../src/train/train.js";
import { type BenchResult, machine } from "./bench.js";
import { transformersLogits } from "./peers/transformers/transformers.js";
import { goldenFolders } from "./tasks/goldens.js";

const target = 1e-5;

/** Every router whose inference a published family expresses. */
const trained: Readonly<Record<string, MoeOptions | false>> = {
  dense: false,
  mixtral: { router: "mixtral" },
  "mixtral with z-loss": { router: "mixtral", zLoss: 0.001, balance: { method: "gshard", coefficient: 0.01 } },
  olmoe: { router: "olmoe" },
  qwen3: { router: "qwen3", layers: "every-other" },
  "qwen2 with a shared expert": { router: "olmoe", shared: 1 },
  "deepseek-v3 with a shared expert": { router: routerConfig("deepseek-v3", { groups: { count: 4, keep: 2, score: "top2sum" } }), shared: 2, layers: { firstDense: 1 } },
};

interface Case {
  name: string;
  savedAs: string;
  checkpoint: string;
  golden: string;
}

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({ args, options: { only: { type: "string" }, keep: { type: "string" } } });
  const engine = loadEngine();
  const about = machine(engine);
  const folder = values.keep ?? mkdtempSync(join(tmpdir(), "switchyard-transformers-"));
  const wanted = (name: string) => values.only === undefined || values.only.split(",").includes(name);
  const failed: { name: string; error: string }[] = [];
  const cases: Case[] = [];
  const attempt = async (name: string, make: (checkpoint: string, golden: string) => Promise<string>) => {
    if (!wanted(name)) return;
    const [checkpoint, golden] = [join(folder, name, "model"), join(folder, name, "golden")];
    try {
      cases.push({ name, savedAs: await make(checkpoint, golden), checkpoint, golden });
    } catch (error) {
      failed.push({ name, error: (error as Error).message });
    }
  };
  for (const [name, moe] of Object.entries(trained)) await attempt(`trained: ${name}`, (checkpoint, golden) => trainAndSave(moe, checkpoint, golden));
  for (const [name, source] of goldenFolders()) await attempt(name, (checkpoint, golden) => saveAgain(source, checkpoint, golden));
  const results = transformersLogits(cases);
  if (values.keep === undefined) rmSync(folder, { recursive: true });

  const rows = cases.map(({ name, savedAs }, i) => {
    const result = results[i] as (typeof results)[number];
    if ("error" in result) return failure(name, savedAs, result.error);
    const { float64, float32, lost, missing, unexpected } = result;
    const agrees = float64 <= Math.max(target, 2 * lost) && missing.length === 0 && unexpected.length === 0;
    const note = [...missing.map((key) => `missing ${key}`), ...unexpected.map((key) => `unknown ${key}`)].slice(0, 3).join(", ");
    return { name, "saved as": savedAs, float64: float64.toExponential(1), float32: float32.toExponential(1), "their own f32": lost.toExponential(1), agrees: agrees ? "yes" : "no", note };
  });
  rows.push(...failed.map(({ name, error }) => failure(name, "-", error)));
  const agreeing = rows.filter(({ agrees }) => agrees === "yes").length;
  return { name: "transformers", unit: "checkpoints that agree", ours: agreeing, peer: rows.length, ratio: agreeing / rows.length, peak: null, machine: about, rows, note: `Errors of the logits relative to the largest; wanted: at most ${target} (or twice their own f32 error) in float64, and no tensor missing or unknown.` };
}

const failure = (name: string, savedAs: string, error: string) => ({ name, "saved as": savedAs, float64: null, float32: null, "their own f32": null, agrees: "no", note: error.slice(0, 200) });

async function trainAndSave(moe: MoeOptions | false, checkpoint: string, golden: string): Promise<string> {
  const text = Uint16Array.from({ length: 4000 }, (_, i) => (i * i) % 251);
  using model = LanguageModel.create({ config: modelConfig({ vocab: 256, width: 64, layers: 4, heads: 4, kvHeads: 2, context: 64, hidden: 128, moe }), seed: 1 });
  for await (const _ of train(model, { data: text, steps: 20, batch: 4, learningRate: 0.01, validation: 0.1, evalEvery: 0 }));
  await model.save(checkpoint);
  await recordGolden(subjectOf(model), golden, randomInputs(subjectOf(model), 1));
  return modelTypeOf(checkpoint);
}

/** Loads and saves a checkpoint, and records what the saved one computes. */
async function saveAgain(source: string, checkpoint: string, golden: string): Promise<string> {
  using model = await openModel(source);
  await model.save(checkpoint);
  await recordGolden(subjectOf(model), golden, readGolden(source));
  return modelTypeOf(checkpoint);
}

const modelTypeOf = (checkpoint: string) => (JSON.parse(readFileSync(join(checkpoint, "config.json"), "utf8")) as { model_type: string }).model_type;
