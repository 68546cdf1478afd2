import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { nmse } from "../../test/engines.js";
import { Tape, type TapeOptions } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { loadEngine } from "../engine/load.js";
import { ReferenceEngine } from "../engine/reference.js";
import { openCheckpointTensors, readAsF32, writeCheckpointTensors } from "../formats/checkpoint.js";
import type { SafetensorsDtype } from "../formats/safetensors.js";
import type { TensorToWrite } from "../formats/safetensors-writer.js";
import { decodeMxfp4Pairs } from "../quant/fp4.js";
import { decodeFp8Blocks, type Fp8 } from "../quant/fp8.js";
import { Random } from "../tensor/random.js";
import { sizeOf } from "../tensor/tensor.js";
import { readGolden } from "../inspect/golden.js";
import { openModel } from "../inspect/open.js";
import { recordGolden } from "../inspect/record.js";
import { subjectOf } from "../inspect/subject.js";
import { verifySubject } from "../inspect/verify.js";
import { Model } from "../generate/model.js";
import { KvCache } from "./cache.js";
import { readModelFolder } from "./folder.js";
import { LanguageModel } from "./language-model.js";
import type { ExpertCache } from "./residency/expert-cache.js";
import { forward, logits } from "./transformer.js";

const golden = new URL("../../../shared/goldens/gpt_oss/", import.meta.url).pathname;
const root = mkdtempSync(join(tmpdir(), "switchyard-quantized-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const toWrite = (name: string, dtype: SafetensorsDtype, shape: readonly number[], bytes: Uint8Array): TensorToWrite => ({ name, dtype, shape, chunks: () => [bytes] });

function blocksOf(bytes: Uint8Array, scales: Uint8Array): Uint8Array {
  const engine = new ReferenceEngine();
  using arena = new Arena(engine);
  const tensor = (dtype: "u8" | "mxfp4", elements: number) => arena.alloc(dtype, [elements]);
  const [out, x, s] = [tensor("mxfp4", 32 * scales.length), tensor("u8", bytes.length), tensor("u8", scales.length)];
  engine.write(x, bytes);
  engine.write(s, scales);
  engine.repack(out, { rows: 1, elements: x, scales: s });
  return engine.read(out) as Uint8Array;
}

/** Experts of gpt-oss as random MXFP4, the same in our own layout, and the same numbers as the plain checkpoint has them: [in, out]. */
function experts(name: string, [E, rows, cols]: readonly [number, number, number], random: Random): Record<Kind, TensorToWrite[]> {
  const bytes = Uint8Array.from({ length: (E * rows * cols) / 2 }, () => Math.floor(random.next() * 256));
  const scales = Uint8Array.from({ length: (E * rows * cols) / 32 }, () => 122 + Math.floor(random.next() * 4));
  const values = decodeMxfp4Pairs(bytes, scales);
  const transposed = values.map((_, i) => {
    const [e, within] = [Math.floor(i / (rows * cols)), i % (rows * cols)];
    return values[(e * rows + (within % rows)) * cols + Math.floor(within / rows)] as number;
  });
  return {
    quantised: [toWrite(`${name}_blocks`, "U8", [E, rows, cols / 32, 16], bytes), toWrite(`${name}_scales`, "U8", [E, rows, cols / 32], scales)],
    ours: [toWrite(`${name}.mxfp4`, "U8", [E, rows, (17 * cols) / 32], blocksOf(bytes, scales))],
    plain: [toWrite(name, "F32", [E, cols, rows], new Uint8Array(transposed.buffer))],
  };
}

const kinds = ["plain", "quantised", "ours"] as const;
type Kind = (typeof kinds)[number];

async function writeAll(): Promise<Record<Kind, string>> {
  const random = new Random(5);
  const tensors: Record<Kind, TensorToWrite[]> = { plain: [], quantised: [], ours: [] };
  for (const [name, stored] of openCheckpointTensors(golden)) {
    const [E = 0, cols = 0, rows = 0] = stored.shape;
    const same = () => [toWrite(name, "F32", stored.shape, new Uint8Array(Float32Array.from([...readAsF32(stored)].flatMap((v) => [...v])).buffer))];
    const written = /experts\.(gate_up|down)_proj$/.test(name)
      ? experts(name, [E, rows, cols], random)
      : { plain: same(), quantised: same(), ours: same() };
    for (const kind of kinds) tensors[kind].push(...written[kind]);
  }
  const folders = { plain: join(root, "plain"), quantised: join(root, "quantised"), ours: join(root, "ours") };
  for (const kind of kinds) {
    cpSync(golden, folders[kind], { recursive: true });
    rmSync(join(folders[kind], "model.safetensors"), { force: true });
    await writeCheckpointTensors(folders[kind], tensors[kind], 200_000); // in shards
  }
  const config = JSON.parse(readFileSync(join(golden, "config.json"), "utf8")) as object;
  for (const [kind, method] of [["quantised", "mxfp4"], ["ours", "switchyard"]] as const) {
    writeFileSync(join(folders[kind], "config.json"), JSON.stringify({ ...config, quantization_config: { quant_method: method } }));
  }
  return folders;
}

async function logitsOf(folder: string, engine: Engine, options?: TapeOptions): Promise<Float32Array> {
  using model = await LanguageModel.load(folder, { engine });
  return logitsWith(model, options);
}

/** Logits of a prompt and of tokens after it, and the tokens that generation gives: with room for so many experts, or for all where the files are mapped. */
async function runWith(folder: string, slots?: number): Promise<{ all: Float32Array[]; tokens: number[]; cache: ExpertCache | undefined }> {
  const engine = loadEngine();
  const { config, sources } = await readModelFolder(folder);
  using model = new Model(engine, config, undefined, sources, slots === undefined ? undefined : () => () => slots);
  using cache = new KvCache(engine, model.config, 32);
  using arena = new Arena(engine);
  const all = [[5, 80, 33, 7, 120], ...Array.from({ length: 12 }, (_, i) => [(i * 37 + 11) % 150])].map((ids) => {
    arena.reset();
    const tape = new Tape(engine, arena);
    const { hidden } = forward(tape, model, { ids: tape.constant([ids.length], ids, "i32"), batch: [{ cache, length: ids.length }] });
    return Float32Array.from(engine.read(logits(tape, model, hidden)));
  });
  const tokens: number[] = [];
  for await (const { token } of model.generate(Int32Array.from([5, 80, 33, 7]), { maxTokens: 8, temperature: 0 })) tokens.push(token);
  return { all, tokens, cache: model.parameters.cache };
}

/** A cache of so many experts reads some of them again and again, and gives the same bits. */
async function expectBudgeted(folder: string, slots: number): Promise<void> {
  const [mapped, budgeted] = [await runWith(folder), await runWith(folder, slots)];
  expect([budgeted.all, budgeted.tokens]).toEqual([mapped.all, mapped.tokens]);
  const { counts, size } = budgeted.cache as ExpertCache;
  expect(size.slots).toBe(slots);
  expect(counts.hits).toBeGreaterThan(0);
  expect(counts.needed - counts.hits).toBeGreaterThan(size.slots);
}

function logitsWith(model: LanguageModel, options?: TapeOptions): Float32Array {
  using arena = new Arena(model.engine, 2 ** 22);
  const tape = new Tape(model.engine, arena, options);
  const ids = tape.constant([20], Int32Array.from({ length: 20 }, (_, i) => i * 7), "i32");
  return Float32Array.from(model.engine.read(logits(tape, model, forward(tape, model, { ids, batch: 1 }).hidden)));
}

describe.skipIf(!existsSync(golden))("MXFP4 experts (needs ../shared/goldens)", () => {
  it("give the same bits as the numbers that they stand for where products take floats, from shards too, and are saved as those", async () => {
    const { plain, quantised } = await writeAll();
    const [reference, engine] = [new ReferenceEngine(), loadEngine()];
    expect(await logitsOf(quantised, reference)).toEqual(await logitsOf(plain, reference));
    using model = await LanguageModel.load(quantised, { engine });
    const saved = join(root, "saved");
    await model.save(saved);
    expect(await logitsOf(saved, engine)).toEqual(await logitsOf(plain, engine));
    expect(JSON.parse(readFileSync(join(saved, "config.json"), "utf8"))).not.toHaveProperty("quantization_config");
  });

  it.skipIf(loadEngine().name !== "native")("are multiplied as blocks, with the bits that our own layout of them gives, in 17 bytes per 32", async () => {
    const { plain, quantised, ours } = await writeAll();
    const engine = loadEngine();
    const got = await logitsOf(quantised, engine);
    expect(got).toEqual(await logitsOf(ours, engine));
    // Activations are rounded to 8 bits.
    const want = await logitsOf(plain, engine);
    expect(nmse(got, want)).toBeLessThan(0.02 ** 2);
    // As a reference has them, whose logits `verify` compares.
    using exact = (await openModel(quantised, engine)) as LanguageModel;
    expect(logitsWith(exact)).toEqual(want);
    const told: [done: number, total: number][] = [];
    using model = await LanguageModel.load(quantised, { engine, onProgress: (...bytes) => told.push(bytes) });
    const packed = model.parameters.list.filter(({ name }) => /experts\.(up|down)$/.test(name)).reduce((sum, { name }) => sum + model.parameters.bytes(name), 0);
    expect([told.at(-1), told.length]).toEqual([[packed, packed], 2 * model.config.layers * (model.config.moe?.experts ?? 0)]);
    const { shape } = model.parameters.list.find(({ name }) => name === "layers.0.experts.up")!;
    expect(model.parameters.bytes("layers.0.experts.up")).toBe((sizeOf(shape) * 17) / 32);
  });

  it.skipIf(loadEngine().name !== "native")("come one by one from the file under a memory budget, with the same bits", async () => {
    const { quantised } = await writeAll();
    const { moe } = (await readModelFolder(quantised)).config;
    await expectBudgeted(quantised, (moe?.experts ?? 0) + 1);
  });

  it("are refused when scales are missing, or of another shape", async () => {
    const { quantised } = await writeAll();
    const tensors = [...openCheckpointTensors(quantised)].map(([name, t]) => ({ name, dtype: t.dtype, shape: t.shape, bytes: readFileSync(t.file).subarray(t.begin, t.end) }));
    const rewrite = async (name: string, change: (t: (typeof tensors)[0]) => (typeof tensors)[0] | undefined) => {
      const folder = join(root, name);
      cpSync(join(quantised, "config.json"), join(folder, "config.json"));
      await writeCheckpointTensors(folder, tensors.flatMap((t) => (t.name.endsWith("0.mlp.experts.down_proj_scales") ? (change(t) ?? []) : t)).map((t) => toWrite(t.name, t.dtype, t.shape, t.bytes)));
      return LanguageModel.load(folder, { engine: loadEngine() });
    };
    await expect(rewrite("missing", () => undefined)).rejects.toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT", message: expect.stringMatching(/down_proj_blocks".*down_proj_scales/) }));
    await expect(rewrite("reshaped", (t) => ({ ...t, shape: [t.shape[0]!, t.shape[2]!, t.shape[1]!] }))).rejects.toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT", message: expect.stringMatching(/down_proj_scales.*config\.json says/) }));
  });
});

describe.skipIf(!existsSync(golden) || loadEngine().name !== "native")("BF16 experts that stand [in, out] (needs ../shared/goldens)", () => {
  it("stay 16 bits wide and give the bits of the same numbers as f32, in that precision", async () => {
    const folderOf = async (kind: string, expert: (bits: Uint32Array) => { dtype: SafetensorsDtype; bytes: Uint8Array }) => {
      const folder = join(root, kind);
      cpSync(golden, folder, { recursive: true });
      const tensors = [...openCheckpointTensors(golden)].map(([name, { file, dtype, shape, begin, end }]) => {
        const bytes = Uint8Array.from(readFileSync(file).subarray(begin, end));
        const written = /experts\.(gate_up|down)_proj$/.test(name) ? expert(new Uint32Array(bytes.buffer)) : { dtype, bytes };
        return toWrite(name, written.dtype, shape, written.bytes);
      });
      await writeCheckpointTensors(folder, tensors);
      return folder;
    };
    const narrow = await folderOf("narrow", (bits) => ({ dtype: "BF16", bytes: new Uint8Array(Uint16Array.from(bits, (b) => b >>> 16).buffer) }));
    const wide = await folderOf("wide", (bits) => ({ dtype: "F32", bytes: new Uint8Array(bits.map((b) => b & 0xffff0000).buffer) }));
    const engine = loadEngine();
    const want = await logitsOf(wide, engine);
    expect(await logitsOf(narrow, engine, { precision: "f32" })).toEqual(want);
    // Activations are rounded to bf16.
    const error = nmse(await logitsOf(narrow, engine), want);
    expect(error).toBeGreaterThan(1e-8);
    expect(error).toBeLessThan(2e-5);
    using model = await LanguageModel.load(narrow, { engine });
    using other = await LanguageModel.load(wide, { engine });
    const recorded = join(root, "recorded");
    await recordGolden(subjectOf(other), recorded, { ids: [[3, 1, 4, 1, 5, 9, 2, 6]] });
    expect(await verifySubject(subjectOf(model), readGolden(recorded))).toMatchObject({ pass: true, logits: { relativeError: 0 } });
    const { shape } = model.parameters.list.find(({ name }) => name === "layers.0.experts.down")!;
    expect(model.parameters.bytes("layers.0.experts.down")).toBe(2 * sizeOf(shape));
    await expectBudgeted(narrow, (model.config.moe?.experts ?? 0) + 1);
    const refused = { code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(/experts of layer 0 are F32 \[in, out\] in the model's files, which cannot be read one by one/) };
    await expect(LanguageModel.load(wide, { engine, memory: 2 ** 40 })).rejects.toMatchObject(refused);
  });
});

describe("8-bit floats with scales in blocks", () => {
  /** A model whose matrices are random 8-bit floats with a scale for each `block`, and the same with the numbers that they stand for. */
  async function folders(type: Fp8, block: readonly [number, number]): Promise<{ narrow: string; wide: string }> {
    const [narrow, wide] = ["narrow", "wide"].map((kind) => join(root, `${type}-${block.join("x")}-${kind}`)) as [string, string];
    using model = LanguageModel.create({ width: 128, layers: 2, heads: 2, context: 32, vocab: 160, moe: { experts: 3, active: 2, hidden: 256 }, seed: 1, engine: loadEngine() });
    for (const folder of [narrow, wide]) await model.save(folder);
    const random = new Random(7);
    const lists: { narrow: TensorToWrite[]; wide: TensorToWrite[] } = { narrow: [], wide: [] };
    for (const [name, { file, dtype, shape, begin, end }] of openCheckpointTensors(narrow)) {
      const [rows = 0, cols = 0] = shape;
      const plain = toWrite(name, dtype, shape, Uint8Array.from(readFileSync(file).subarray(begin, end)));
      if (shape.length !== 2 || /embed|lm_head|gate\.weight/.test(name)) {
        lists.narrow.push(plain);
        lists.wide.push(plain);
        continue;
      }
      const scaleShape = [Math.ceil(rows / block[0]), Math.ceil(cols / block[1])];
      const scales = Float32Array.from({ length: sizeOf(scaleShape) }, () => (type === "F8_E4M3" ? 1e-3 : 1e-5) * (0.5 + random.float()));
      // Of both signs, subnormal numbers among them, none of which is infinite or NaN.
      const bytes = Uint8Array.from({ length: rows * cols }, () => random.below(2) * 128 + random.below(0x7c));
      lists.narrow.push(toWrite(name, type, shape, bytes), toWrite(`${name}_scale_inv`, "F32", scaleShape, new Uint8Array(scales.buffer)));
      lists.wide.push(toWrite(name, "F32", shape, new Uint8Array(decodeFp8Blocks(type, bytes, [rows, cols], scales, block).buffer)));
    }
    const config = JSON.parse(readFileSync(join(narrow, "config.json"), "utf8")) as object;
    writeFileSync(join(narrow, "config.json"), JSON.stringify({ ...config, quantization_config: { quant_method: "fp8", weight_block_size: block } }));
    for (const [folder, list] of [[narrow, lists.narrow], [wide, lists.wide]] as const) {
      rmSync(join(folder, "manifest.json"), { force: true });
      await writeCheckpointTensors(folder, list);
    }
    return { narrow, wide };
  }

  const bytesPer = (model: LanguageModel, name: string) => model.parameters.bytes(name) / sizeOf(model.parameters.list.find((p) => p.name === name)!.shape);

  it.each<[Fp8, readonly [number, number]]>([["F8_E4M3", [128, 128]], ["F8_E5M2", [128, 128]], ["F8_E4M3", [32, 256]]])("%s in blocks of %j: the bits of the numbers that they stand for, in 132 bytes per 128", async (type, block) => {
    const { narrow, wide } = await folders(type, block);
    const engine = loadEngine();
    const want = await logitsOf(wide, engine);
    expect(want.every(Number.isFinite)).toBe(true);
    expect(await logitsOf(narrow, engine)).toEqual(want);
    expect(await logitsOf(narrow, new ReferenceEngine())).toEqual(await logitsOf(wide, new ReferenceEngine()));
    using model = await LanguageModel.load(narrow, { engine });
    expect(model.kv).toBe("f32");
    const expected = engine.name === "native" ? 132 / 128 : 4;
    for (const name of ["attention.q", "experts.up", "experts.down"]) expect(bytesPer(model, `layers.0.${name}`), name).toBe(expected);
    // As `verify` opens it, and saved.
    using opened = (await openModel(narrow, engine)) as LanguageModel;
    expect([bytesPer(opened, "layers.0.experts.up"), logitsWith(opened)]).toEqual([expected, want]);
    const saved = join(root, `${type}-${block.join("x")}-saved`);
    await model.save(saved);
    expect(await logitsOf(saved, engine)).toEqual(want);
    if (engine.name === "native") await expectBudgeted(narrow, 4);
  });

  it("whose blocks are no whole 128 columns are read as floats", async () => {
    const { narrow, wide } = await folders("F8_E4M3", [128, 64]);
    using model = await LanguageModel.load(narrow);
    expect(bytesPer(model, "layers.0.experts.up")).toBe(4);
    expect(logitsWith(model)).toEqual(await logitsOf(wide, loadEngine()));
    const refused = { message: expect.stringMatching(loadEngine().name === "native" ? /experts of layer 0 are F8_E4M3 in blocks of 128 x 64 in the model's files/ : /needs the native engine/) };
    await expect(LanguageModel.load(narrow, { memory: 2 ** 40 })).rejects.toMatchObject(refused);
  });
});
