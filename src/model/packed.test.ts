import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { nativeVariants } from "../../test/engines.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { ReferenceEngine } from "../engine/reference.js";
import { readSafetensorsHeader } from "../formats/safetensors.js";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors-writer.js";
import { readModelFolder, writeModelFolder } from "./folder.js";
import { LanguageModel } from "./language-model.js";
import { packedName } from "./packed.js";
import { modelConfig } from "./presets.js";
import { StagedWeights } from "./staged.js";
import type { FileType } from "./stored-types.js";
import { forward, logits } from "./transformer.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-packed-"));
afterAll(() => rmSync(dir, { recursive: true }));
const engine = new ReferenceEngine({ float: "f32" });

const goldens = new URL("../../../shared/goldens/", import.meta.url).pathname;
/** Experts apart, stacked, stacked and [in, out] with gate and up rows in turn, in one tensor for all; tied and untied embeddings. */
const families = ["olmoe", "qwen3_moe", "mixtral", "gpt_oss", "llama4", "dbrx", "granitemoe", "phimoe", "deepseek_v3", "qwen3_next", "jamba", "lfm2_moe"];

let count = 0;
async function packGolden(family: string, type: FileType): Promise<{ folder: string; source: string }> {
  const [source, folder] = [join(goldens, family), join(dir, String(count++))];
  const { config, sources } = await readModelFolder(source);
  using weights = new StagedWeights(engine, config, sources);
  await writeModelFolder(folder, config, weights, undefined, { type });
  return { folder, source };
}

describe.skipIf(!existsSync(goldens))("a folder with tensors of blocks (needs ../shared/goldens)", () => {
  it.each(families)("%s: what is written in Q8_0 is read again, within half a step", async (family) => {
    const { folder, source } = await packGolden(family, "Q8_0");
    const [before, after] = [await readModelFolder(source), await readModelFolder(folder)];
    expect({ ...after.config, published: undefined }).toEqual({ ...before.config, published: undefined });
    using a = new StagedWeights(engine, before.config, before.sources);
    using b = new StagedWeights(engine, after.config, after.sources);
    let rounded = 0;
    for (const [name, { rows }] of after.sources) {
      const [x, y] = [a, b].map((weights) => engine.read(weights.get(name)) as Float32Array) as [Float32Array, Float32Array];
      const isPacked = rows?.some(({ dtype }) => dtype === "q8_0") === true;
      const largest = x.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      const error = x.reduce((m, v, i) => Math.max(m, Math.abs(v - y[i]!)), 0);
      // Rows of 32 to 63 elements are one block of 32 or none: F16.
      expect(error, name).toBeLessThanOrEqual((isPacked ? 0.0042 : 5e-4) * largest);
      if (/router|[nN]orm/.test(name)) expect(error, name).toBe(0);
      if (isPacked) rounded++;
    }
    expect(rounded).toBeGreaterThan(after.config.layers * 3);
    for (const name of readSafetensorsHeader(join(folder, "model.safetensors")).tensors.keys()) if (/router|norm\.weight/.test(name)) expect(packedName(name), name).toBeUndefined();
  });

  it.each(nativeVariants.slice(-1))("native %s: products read the blocks in place, with the bits that the same blocks in memory give", async (isa) => {
    const native = loadEngine({ engine: "native", isa });
    const { folder } = await packGolden("gpt_oss", "Q4_0");
    const { config, sources } = await readModelFolder(folder);
    const before = native.allocatedBytes;
    using mapped = new LanguageModel(native, config, undefined, sources);
    expect(mapped.parameters.experts("layers.0.experts.down").flat()[0]).toMatchObject({ dtype: "q4_0" });
    expect(native.allocatedBytes - before).toBeLessThanOrEqual(2 ** 29);
    const out = (model: LanguageModel) => {
      using arena = new Arena(model.engine);
      const tape = new Tape(model.engine, arena);
      const { hidden } = forward(tape, model, { ids: tape.constant([6], [1, 2, 3, 4, 5, 6], "i32"), batch: 1 });
      return Array.from(model.engine.read(logits(tape, model, hidden)));
    };
    const [got, want] = [out(mapped), out(new LanguageModel(engine, config, undefined, sources))];
    const scale = Math.max(...want.map(Math.abs));
    // Activations are rounded to int8 where the blocks are multiplied in place.
    expect(Math.max(...got.map((x, i) => Math.abs(x - want[i]!))) / scale).toBeLessThan(0.05);
  });
});

describe("what is wrong with such a folder is told", () => {
  const config = modelConfig({ size: "xs", vocab: 64, width: 64, layers: 1, heads: 2, moe: { experts: 2, active: 1, hidden: 32 } });

  async function written(): Promise<string> {
    const folder = join(dir, String(count++));
    using model = LanguageModel.create({ config, engine, seed: 1 });
    await writeModelFolder(folder, config, model.parameters, undefined, { type: "Q8_0" });
    rmSync(join(folder, "manifest.json"));
    return folder;
  }
  const attention = "model.layers.0.self_attn.q_proj.weight";

  it.each<[string, (t: TensorToWrite[]) => void, RegExp]>([
    ["a row too short", (t) => Object.assign(t.find(({ name }) => name === `${attention}.q8_0`)!, { shape: [64, 34], chunks: () => [new Uint8Array(64 * 34)] }), /q_proj\.weight\.q8_0": config\.json says \[64, 68\], the file has \[64, 34\]/],
    ["floats for bytes", (t) => Object.assign(t.find(({ name }) => name === `${attention}.q8_0`)!, { dtype: "F32", chunks: () => [new Uint8Array(4 * 64 * 68)] }), /q_proj\.weight": expected bytes \(U8\) of rows of whole blocks of 32 elements, got F32/],
    ["blocks that are too long", (t) => Object.assign(t.find(({ name }) => name === `${attention}.q8_0`)!, { name: `${attention}.q4_k` }), /whole blocks of 256 elements, got U8 and rows of 64/],
    ["two types", (t) => t.push({ ...t.find(({ name }) => name === `${attention}.q8_0`)!, name: `${attention}.q5_0` }), /q_proj\.weight": it is there in two types/],
    ["a missing tensor", (t) => t.splice(t.findIndex(({ name }) => name === `${attention}.q8_0`), 1), /q_proj\.weight" is missing/],
  ])("%s", async (_, change, message) => {
    const folder = await written();
    const file = join(folder, "model.safetensors");
    const bytes = Uint8Array.from(readFileSync(file));
    const tensors = [...readSafetensorsHeader(file).tensors].map(([name, { dtype, shape, begin, end }]): TensorToWrite => ({ name, dtype, shape, chunks: () => [bytes.subarray(begin, end)] }));
    change(tensors);
    await writeSafetensors(file, tensors);
    await expect(readModelFolder(folder)).rejects.toMatchObject({ code: "ERR_SWITCHYARD_FORMAT", message: expect.stringMatching(message) });
  });

  it("config.json declares the blocks; without that they are no tensors of the model", async () => {
    const folder = await written();
    const json = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;
    expect(json["quantization_config"]).toEqual({ quant_method: "switchyard" });
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...json, quantization_config: undefined }));
    await expect(readModelFolder(folder)).rejects.toMatchObject({ message: expect.stringMatching(/tensor "model.embed_tokens.weight" is missing/) });
  });

  it("weights that f16 scales cannot hold leave nothing behind", async () => {
    using model = LanguageModel.create({ config, engine, seed: 1 });
    engine.fill(model.parameters.get("layers.0.attention.q"), 1e9);
    const folder = join(dir, "large");
    await expect(writeModelFolder(folder, config, model.parameters, undefined, { type: "Q4_0" })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DATA" });
    expect(existsSync(folder)).toBe(false);
  });
});
