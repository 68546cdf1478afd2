import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { nativeVariants } from "../../test/engines.js";
import { loadEngine } from "../engine/load.js";
import { ReferenceEngine } from "../engine/reference.js";
import { randomTypes } from "../quant/random-blocks.js";
import { readModelGguf } from "./gguf-file.js";
import { LanguageModel } from "./language-model.js";
import { Parameters } from "./parameters.js";
import { modelConfig } from "./presets.js";
import { type RandomType, writeRandomGguf } from "./random-gguf.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-random-gguf-"));
afterAll(() => rmSync(dir, { recursive: true }));
const config = modelConfig({ vocab: 300, width: 256, layers: 2, heads: 4, context: 8, moe: { router: "mixtral", experts: 4, active: 2, hidden: 256 } });
const write = async (type: RandomType, seed: number) => {
  const path = join(dir, `${type}-${seed}.gguf`);
  await writeRandomGguf(path, config, type, seed);
  return path;
};

it.each(randomTypes)("a model of random %s can be loaded, and its weights are those of a new model in size", async (type) => {
  const { config: read, sources } = readModelGguf(await write(type, 1));
  expect(read).toMatchObject({ width: 256, layers: 2, moe: { experts: 4, active: 2, hidden: 256 } });
  const parameters = new Parameters(new ReferenceEngine({ float: "f32" }), read, sources);
  for (const { name, tensor, init } of parameters.list) {
    const values = Float32Array.from(parameters.engine.read(tensor));
    if ("constant" in init) expect(values.every((x) => x === init.constant), name).toBe(true);
    else expect(Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length) / init.std, name).toSatisfy((ratio: number) => ratio > 0.66 && ratio < 1.5);
  }
});

it.skipIf(nativeVariants.length === 0).each<[RandomType, string]>([["Q8_0", "f16"], ["BF16", "f32"]])("beside weights in %s keys and values are kept as %s", async (type, kv) => {
  using model = await LanguageModel.load(await write(type, 1), { engine: loadEngine({ engine: "native" }) });
  expect(model.kv).toBe(kv);
});

it("the same seed gives the same file, another seed another", async () => {
  const bytes = readFileSync(await write("Q6_K", 1));
  expect(readFileSync(await write("Q6_K", 1)).equals(bytes)).toBe(true);
  expect(readFileSync(await write("Q6_K", 2)).equals(bytes)).toBe(false);
});
