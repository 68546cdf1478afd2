import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { openCheckpointTensors, readAsF32, writeCheckpointTensors } from "../formats/checkpoint.js";
import type { SafetensorsDtype } from "../formats/safetensors.js";
import type { TensorToWrite } from "../formats/safetensors-writer.js";
import { decodeMxfp4Pairs } from "../quant/fp4.js";
import { Random } from "../tensor/random.js";
import { LanguageModel } from "./language-model.js";
import { forward, logits } from "./transformer.js";

const golden = new URL("../../../shared/goldens/gpt_oss/", import.meta.url).pathname;
const root = mkdtempSync(join(tmpdir(), "switchyard-quantized-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const toWrite = (name: string, dtype: SafetensorsDtype, shape: readonly number[], bytes: Uint8Array): TensorToWrite => ({ name, dtype, shape, chunks: () => [bytes] });

/** Experts of gpt-oss as random MXFP4, and the same numbers as the plain checkpoint has them: [in, out]. */
function experts(name: string, [E, rows, cols]: readonly [number, number, number], random: Random): { blocks: TensorToWrite[]; plain: TensorToWrite } {
  const bytes = Uint8Array.from({ length: (E * rows * cols) / 2 }, () => Math.floor(random.next() * 256));
  const scales = Uint8Array.from({ length: (E * rows * cols) / 32 }, () => 122 + Math.floor(random.next() * 4));
  const values = decodeMxfp4Pairs(bytes, scales);
  const transposed = values.map((_, i) => {
    const [e, within] = [Math.floor(i / (rows * cols)), i % (rows * cols)];
    return values[(e * rows + (within % rows)) * cols + Math.floor(within / rows)] as number;
  });
  return {
    blocks: [toWrite(`${name}_blocks`, "U8", [E, rows, cols / 32, 16], bytes), toWrite(`${name}_scales`, "U8", [E, rows, cols / 32], scales)],
    plain: toWrite(name, "F32", [E, cols, rows], new Uint8Array(transposed.buffer)),
  };
}

async function writeBoth(): Promise<{ plain: string; quantised: string }> {
  const random = new Random(5);
  const tensors: Record<"plain" | "quantised", TensorToWrite[]> = { plain: [], quantised: [] };
  for (const [name, stored] of openCheckpointTensors(golden)) {
    const [E = 0, cols = 0, rows = 0] = stored.shape;
    const { blocks, plain } = /experts\.(gate_up|down)_proj$/.test(name)
      ? experts(name, [E, rows, cols], random)
      : { blocks: undefined, plain: toWrite(name, "F32", stored.shape, new Uint8Array(Float32Array.from([...readAsF32(stored)].flatMap((v) => [...v])).buffer)) };
    tensors.plain.push(plain);
    tensors.quantised.push(...(blocks ?? [plain]));
  }
  const folders = { plain: join(root, "plain"), quantised: join(root, "quantised") };
  for (const kind of ["plain", "quantised"] as const) {
    cpSync(golden, folders[kind], { recursive: true });
    rmSync(join(folders[kind], "model.safetensors"), { force: true });
    await writeCheckpointTensors(folders[kind], tensors[kind], 200_000); // in shards
  }
  const config = JSON.parse(readFileSync(join(golden, "config.json"), "utf8")) as object;
  writeFileSync(join(folders.quantised, "config.json"), JSON.stringify({ ...config, quantization_config: { quant_method: "mxfp4" } }));
  return folders;
}

async function logitsOf(folder: string): Promise<Float32Array> {
  using model = await LanguageModel.load(folder, { engine: loadEngine() });
  using arena = new Arena(model.engine, 2 ** 22);
  const tape = new Tape(model.engine, arena);
  const ids = tape.constant([20], Int32Array.from({ length: 20 }, (_, i) => i * 7), "i32");
  return Float32Array.from(model.engine.read(logits(tape, model, forward(tape, model, { ids, batch: 1 }).hidden)));
}

describe.skipIf(!existsSync(golden))("MXFP4 experts (needs ../shared/goldens)", () => {
  it("give the same bits as the numbers that they stand for, from shards too, and are saved as those", async () => {
    const { plain, quantised } = await writeBoth();
    const want = await logitsOf(plain);
    expect(await logitsOf(quantised)).toEqual(want);
    using model = await LanguageModel.load(quantised, { engine: loadEngine() });
    const saved = join(root, "saved");
    await model.save(saved);
    expect(await logitsOf(saved)).toEqual(want);
    expect(JSON.parse(readFileSync(join(saved, "config.json"), "utf8"))).not.toHaveProperty("quantization_config");
  });

  it("are refused when scales are missing, or of another shape", async () => {
    const { quantised } = await writeBoth();
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
