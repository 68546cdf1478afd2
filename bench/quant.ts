/**
 * How close do products with quantised weights come to the arithmetic peak (prompts) and to the read bandwidth (one token)?
 * OLMoE's shapes: 64 experts, 8 per token, 2048 -> 1024 twice and 1024 -> 2048; and a dense 2048 -> 2048. The weights lie in a mapped file and are
 * read in rotation, so that no cache holds them.
 * npm run bench quant -- [--types q4_k,q4_0] [--tokens 512] [--rounds 7] [--json]
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Region } from "../src/engine/engine.js";
import { loadEngine } from "../src/engine/load.js";
import type { NativeEngine } from "../src/engine/native.js";
import { byteLength, dtypeBytes, type StoredDType } from "../src/tensor/dtype.js";
import { Random } from "../src/tensor/random.js";
import { randomBlocks } from "../test/stored.js";
import { type BenchResult, machine, round } from "./bench.js";

const [D, F, E, K] = [2048, 1024, 64, 8];
const defaults = "q4_k,q4_0,q6_k,q8_0,mxfp4,iq4_nl,q5_k,bf16";

/** A mapped file of one layer's experts, every matrix of it random. */
function mapExperts(engine: NativeEngine, folder: string, type: StoredDType): Region {
  const expert = randomBlocks(type, F * D, 1);
  const bytes = new Uint8Array(3 * E * expert.length);
  for (let i = 0; i < 3 * E; i++) bytes.set(expert, i * expert.length);
  const path = join(folder, type);
  writeFileSync(path, bytes);
  return engine.mapFile(path);
}

export async function run(args: string[]): Promise<BenchResult> {
  const options = { types: { type: "string", default: defaults }, tokens: { type: "string", default: "512" }, rounds: { type: "string", default: "7" } } as const;
  const { values } = parseArgs({ args, options });
  const engine = loadEngine({ engine: "native" }) as NativeEngine;
  const about = machine(engine);
  const [T, rounds] = [Number(values.tokens), Number(values.rounds)];
  const folder = mkdtempSync(join(tmpdir(), "quant-"));
  const region = engine.allocate(256 * 2 ** 20);
  const [x, y, out] = [region.tensor("f32", [T, D], 0), region.tensor("f32", [T * K, 2 * F], 2 ** 24), region.tensor("f32", [T * K, D], 2 ** 27)];
  engine.uniform(x, -1, 1, 1);
  const random = new Random(1);
  let [peak, bandwidth] = [0, 0];
  const rows: BenchResult["rows"] = [];
  try {
    for (const type of values.types.split(",") as StoredDType[]) {
      const file = mapExperts(engine, folder, type);
      const size = byteLength(type, E * F * D);
      const [gate, up, down] = [file.tensor(type, [E, F, D], 0), file.tensor(type, [E, F, D], size), file.tensor(type, [E, D, F], 2 * size)];
      const probe = file.tensor("f32", [Math.floor(file.bytes / dtypeBytes.f32)], 0);
      /** Seconds of the layer's three products when `counts[e]` rows go to expert e. */
      const layer = (counts: readonly number[], tokens: number): number => {
        const n = tokens * K;
        const offsets = region.tensor("i32", [E + 1], 250 * 2 ** 20);
        engine.write(offsets, counts.reduce((all, c) => [...all, (all.at(-1) as number) + c], [0]));
        const rowsA = region.tensor("i32", [n], 251 * 2 ** 20);
        engine.write(rowsA, Int32Array.from({ length: n }, () => random.below(tokens)));
        const [xs, hidden] = [region.tensor("f32", [tokens, D], 0), region.tensor("f32", [n, F], 2 ** 24)];
        const start = performance.now();
        engine.groupedMatmul("nt", y, xs, gate, offsets, { rowsA, column: 0 });
        engine.groupedMatmul("nt", y, xs, up, offsets, { rowsA, column: F });
        engine.groupedMatmul("nt", out, hidden, down, offsets);
        return (performance.now() - start) / 1e3;
      };
      const best = { prompt: Infinity, token: Infinity, dense: Infinity };
      for (let turn = 0; turn < rounds; turn++) {
        peak = Math.max(peak, engine.peakGflops(type === "bf16" ? "bf16" : type === "f16" ? "f32" : "int8"));
        bandwidth = Math.max(bandwidth, engine.readBandwidth(probe));
        const counts = new Array<number>(E).fill(0);
        for (let i = 0; i < T * K; i++) counts[random.below(E)]!++;
        best.prompt = Math.min(best.prompt, layer(counts, T));
        for (let i = 0; i < 8; i++) best.token = Math.min(best.token, layer(counts.map((_, e) => (e % 8 === i ? 1 : 0)), 1));
        const start = performance.now();
        engine.matmul("nt", region.tensor("f32", [T, D], 2 ** 27), x, file.tensor(type, [D, D], (turn % 32) * byteLength(type, D * D)));
        best.dense = Math.min(best.dense, (performance.now() - start) / 1e3);
      }
      const prompt = (6 * T * K * D * F) / 1e9 / best.prompt;
      const token = (3 * K * byteLength(type, D * F)) / 1e9 / best.token;
      rows.push({
        type, [`${T} tokens GOP/s`]: round(prompt), "% of peak": round((100 * prompt) / peak), "dense GOP/s": round((2 * T * D * D) / 1e9 / best.dense),
        "one token GB/s": round(token), "% of bandwidth": round((100 * token) / bandwidth), "one token us": Math.round(best.token * 1e6),
      });
      file.free();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const [first] = rows as [BenchResult["rows"][number]];
  const note = `best of ${rounds} rounds; read bandwidth ${round(bandwidth)} GB/s; ours: ${T} tokens of the first type; peak: products of bytes (of bf16 for bf16, of f32 for f16)`;
  return { name: "quant", unit: "GOP/s", ours: first[`${T} tokens GOP/s`] as number, peer: null, ratio: null, peak, machine: about, rows, note };
}
