/**
 * How close do dense matrix products come to the peak of the cores, and to OpenBLAS?
 * npm run bench gemm -- [--precision f32|bf16] [--rounds 5] [--no-peer] [--json]
 */
import type { MatmulForm } from "../src/engine/engine.js";
import { type BenchResult, median, round } from "./bench.js";
import { openblasLoop } from "./peers/openblas/openblas.js";
import { productBench } from "./tasks/products.js";

const shapes = [[128, 1024, 1024], [512, 1024, 768], [2048, 256, 256], [2048, 1024, 256], [8, 1024, 1024], [1, 4096, 4096]] as const;

export async function run(args: string[]): Promise<BenchResult> {
  const { precision, rounds, engine, about, peer } = productBench(args);
  const region = engine.allocate(2 ** 28);
  engine.uniform(region.tensor("f32", [2 ** 26], 0), -1, 1, 1);
  let peak = 0;
  const rows: BenchResult["rows"] = [];
  for (const [m, k, n] of shapes) {
    for (const form of ["nt", "nn", "tn"] as MatmulForm[]) {
      const a = region.tensor("f32", form === "tn" ? [k, m] : [m, k], 0);
      const b = region.tensor("f32", form === "nt" ? [n, k] : [k, n], 2 ** 26);
      const out = region.tensor("f32", [m, n], 2 ** 27);
      const gflop = (2 * m * n * k) / 1e9;
      const calls = Math.max(1, Math.ceil(8 / gflop));
      const ours: number[] = [];
      const theirs: number[] = [];
      let near = 0; // the peak while this case was measured: the clock of a shared machine drifts by some percent within a run
      for (let left = rounds; left > 0; left--) {
        for (let i = 0; i < 3; i++) near = Math.max(near, engine.peakGflops(precision));
        for (let i = 0; i < calls; i++) {
          const start = performance.now();
          engine.matmul(form, out, a, b, { precision });
          ours.push((performance.now() - start) / 1e3);
        }
        // tn is the weight gradient: the reduction runs over the rows, so the loop's one expert has k of them.
        if (peer) theirs.push(...(form === "tn" ? openblasLoop("tn", m, n, [k], calls, engine.threads) : openblasLoop(form, form === "nt" ? n : k, form === "nt" ? k : n, [m], calls, engine.threads)));
      }
      peak = Math.max(peak, near);
      const [best, usual] = [gflop / Math.min(...ours), gflop / median(ours)];
      rows.push({
        shape: `${m} x ${k} x ${n}`, form, best: round(best), median: round(usual), "% of peak": round((100 * best) / near),
        openblas: theirs.length === 0 ? null : round(gflop / Math.min(...theirs)), repetitions: ours.length,
      });
    }
  }
  // The claim is about m >= 128; the geometric mean weighs every case alike.
  const large = rows.slice(0, 12);
  const mean = (key: string) => Math.exp(large.reduce((sum, row) => sum + Math.log(row[key] as number), 0) / large.length);
  const [ours, theirs] = [mean("best"), peer ? mean("openblas") : null];
  const note = `best of all repetitions; ours: geometric mean of the cases with m >= 128, ${round(mean("% of peak"))} % of what ${engine.threads} threads reached beside each case, least ${Math.min(...large.map((row) => row["% of peak"] as number))} %${peer ? "" : "; no OpenBLAS"}`;
  return { name: "gemm", unit: "GFLOP/s", ours, peer: theirs, ratio: theirs && ours / theirs, peak, machine: about, rows, note };
}
