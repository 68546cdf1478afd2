import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { decodeBlocks, fitBlocks } from "../quant/codecs.js";
import { Random } from "../tensor/random.js";
import { LanguageModel } from "./language-model.js";
import { modelConfig } from "./presets.js";
import { writeModel } from "./write.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-published-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each(["model.gguf", "model"])("each expert is rounded by what errors cost in its own columns (%s)", async (name) => {
  const [experts, width] = [3, 32];
  using model = LanguageModel.create({ config: modelConfig({ vocab: 64, width, layers: 1, heads: 2, context: 16, moe: { router: "mixtral", experts, active: 2, hidden: width } }), seed: 1 });
  const { config, engine, parameters } = model;
  const random = new Random(2);
  const costs = () => Array.from({ length: experts }, () => Float32Array.from({ length: width }, () => Math.exp(6 * random.float())));
  const importance = new Map(["layers.0.experts.up", "layers.0.experts.down"].map((parameter) => [parameter, costs()]));
  const target = join(folder, name);
  await writeModel(target, config, parameters, undefined, { type: "Q4_0", importance });
  using written = await LanguageModel.load(target, { engine });
  for (const [parameter, vectors] of importance) {
    const [before, after] = [parameters, written.parameters].map((of) => Float32Array.from(engine.read(of.get(parameter))));
    const each = before!.length / experts;
    const rounded = (e: number, by: number) => decodeBlocks("Q4_0", fitBlocks("Q4_0", before!.slice(e * each, (e + 1) * each), vectors[by]!));
    for (let e = 0; e < experts; e++) expect(after!.slice(e * each, (e + 1) * each)).toEqual(rounded(e, e));
    expect(rounded(1, 0)).not.toEqual(rounded(1, 1));
  }
});
