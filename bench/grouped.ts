/**
 * How fast are the products of an MoE layer over ragged groups, beside a loop of OpenBLAS calls over the experts?
 * npm run bench grouped -- [--precision f32|bf16] [--rounds 5] [--no-peer] [--json]
 */
import { Random } from "../src/tensor/random.js";
import { type BenchResult, median, round } from "./bench.js";
import { openblasLoop } from "./peers/openblas/openblas.js";
import { productBench } from "./tasks/products.js";

const shapes = [
  { T: 512, E: 64, K: 8, D: 1024, F: 768 }, { T: 64, E: 64, K: 8, D: 1024, F: 768 }, { T: 1, E: 64, K: 8, D: 1024, F: 768 },
  { T: 2048, E: 16, K: 4, D: 256, F: 256 }, { T: 2048, E: 64, K: 8, D: 1024, F: 768 },
];

/** Rows per expert when each token chooses K different experts, the first ones more often: about 3 to 1 between first and last. */
function raggedCounts(T: number, E: number, K: number): number[] {
  const random = new Random(1);
  const counts = Array.from({ length: E }, () => 0);
  for (let t = 0; t < T; t++) {
    const chosen = new Set<number>();
    while (chosen.size < K) chosen.add(Math.floor(E * random.float() ** 1.5));
    for (const e of chosen) counts[e] = (counts[e] as number) + 1;
  }
  return counts;
}

export async function run(args: string[]): Promise<BenchResult> {
  const { precision, rounds, engine, about, peer } = productBench(args);
  const MiB = 2 ** 20;
  const region = engine.allocate(640 * MiB);
  engine.uniform(region.tensor("f32", [160 * MiB], 0), -1, 1, 1);
  let peak = 0;
  const rows: BenchResult["rows"] = [];
  for (const { T, E, K, D, F } of shapes) {
    const counts = raggedCounts(T, E, K);
    const N = T * K;
    const random = new Random(2);
    const offsets = region.tensor("i32", [E + 1], 639 * MiB);
    engine.write(offsets, counts.reduce((all, n) => [...all, (all.at(-1) as number) + n], [0]));
    const tokens = region.tensor("i32", [N], 639 * MiB + 65536);
    engine.write(tokens, Int32Array.from({ length: N }, () => random.below(T)));
    const x = region.tensor("f32", [T, D], 0);
    const y = region.tensor("f32", [N, F], 16 * MiB);
    const dx = region.tensor("f32", [N, D], 80 * MiB);
    const w = region.tensor("f32", [E, F, D], 160 * MiB);
    const dw = region.tensor("f32", [E, F, D], 400 * MiB);
    const gflop = (2 * N * D * F) / 1e9;
    const calls = Math.max(1, Math.ceil(4 / gflop));
    const cases = {
      nt: () => engine.groupedMatmul("nt", y, x, w, offsets, { rowsA: tokens, precision }),
      nn: () => engine.groupedMatmul("nn", dx, y, w, offsets, { precision }),
      tn: () => engine.groupedMatmul("tn", dw, y, x, offsets, { rowsB: tokens, precision }),
    };
    for (const form of ["nt", "nn", "tn"] as const) {
      const ours: number[] = [];
      const theirs: number[] = [];
      for (let i = 0; i < rounds; i++) {
        peak = Math.max(peak, engine.peakGflops(precision));
        for (let call = 0; call < calls; call++) {
          const start = performance.now();
          cases[form]();
          ours.push((performance.now() - start) / 1e3);
        }
        if (peer) theirs.push(...openblasLoop(form, F, D, counts, calls, engine.threads));
      }
      const best = Math.min(...ours);
      const loop = theirs.length === 0 ? null : Math.min(...theirs);
      rows.push({
        shape: `${T} tokens, ${E} experts, top-${K}, ${D} -> ${F}`, form, ms: round(best * 1e3, 2), "median ms": round(median(ours) * 1e3, 2),
        "GFLOP/s": round(gflop / best, 2), "% of peak": round((100 * gflop) / best / peak, 2), "openblas ms": loop && round(loop * 1e3, 2), "x openblas": loop && round(loop / best, 2),
        repetitions: ours.length,
      });
    }
  }
  const [first] = rows as [BenchResult["rows"][number]];
  const ours = first["GFLOP/s"] as number;
  const ratio = first["x openblas"] as number | null;
  const note = `best of all repetitions; ours and peer: the first row; OpenBLAS is given its rows already gathered${peer ? "" : "; no OpenBLAS"}`;
  return { name: "grouped", unit: "GFLOP/s", ours, peer: ratio && ours / ratio, ratio, peak, machine: about, rows, note };
}
