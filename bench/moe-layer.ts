/**
 * What part of the machine's peak does a whole MoE layer reach, forward and backward: router, dispatch, experts, combine?
 * npm run bench moe-layer -- [--precision f32|bf16] [--rounds 7] [--json]
 */
import { parseArgs } from "node:util";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import { loadEngine } from "../src/engine/load.js";
import type { NativeEngine } from "../src/engine/native.js";
import { moeLayer } from "../src/moe/layer.js";
import { routerConfig } from "../src/routing/presets.js";
import { type BenchResult, machine, median, round } from "./bench.js";

const shapes = [
  { T: 2048, D: 256, F: 256, E: 16, K: 4 },
  { T: 2048, D: 256, F: 256, E: 64, K: 4 },
  { T: 2048, D: 1024, F: 768, E: 64, K: 8 },
];

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({ args, options: { precision: { type: "string", default: "f32" }, rounds: { type: "string", default: "7" } } });
  const precision = values.precision as "f32" | "bf16";
  const engine = loadEngine({ engine: "native" }) as NativeEngine;
  const about = machine(engine);
  let peak = 0;
  const rows = shapes.map(({ T, D, F, E, K }) => {
    using arena = new Arena(engine, 2 ** 30);
    using constants = new Arena(engine, 2 ** 30);
    const random = (shape: number[], std: number, seed: number) => {
      const tensor = constants.alloc("f32", shape);
      engine.normal(tensor, std, seed);
      tensor.requiresGrad = true;
      tensor.grad = constants.alloc("f32", shape);
      return tensor;
    };
    const x = random([T, D], 1, 1);
    const weight = random([E, D], 0.3 / Math.sqrt(D), 2);
    const [up, down] = [random([E, 2 * F, D], 0.02, 3), random([E, D, F], 0.02, 4)];
    const config = { experts: E, active: K, hidden: F, activation: "silu", gated: true, router: routerConfig("mixtral") } as const;
    const step = () => {
      arena.reset();
      for (const tensor of [x, weight, up, down]) tensor.gradWritten = false;
      const tape = new Tape(engine, arena, { recording: true, training: true, precision });
      tape.backward(moeLayer(tape, x, { router: { weight }, experts: { up, down } }, config).out);
    };
    step();
    const seconds = Array.from({ length: Number(values.rounds) }, () => {
      peak = Math.max(peak, engine.peakGflops(precision));
      const start = performance.now();
      step();
      return (performance.now() - start) / 1e3;
    });
    const gflop = (6 * T * (3 * K * D * F + E * D)) / 1e9;
    return { shape: `${T} tokens, ${D} wide, ${E} experts of ${F}, top-${K}`, ms: Math.min(...seconds) * 1e3, "median ms": median(seconds) * 1e3, "GFLOP/s": gflop / Math.min(...seconds) };
  });
  const [first] = rows as [(typeof rows)[number]];
  return {
    name: `moe-layer ${precision}`,
    unit: "GFLOP/s",
    ours: first["GFLOP/s"],
    peer: null,
    ratio: null,
    peak,
    machine: about,
    rows: rows.map((row) => ({ shape: row.shape, ms: round(row.ms), "median ms": round(row["median ms"]), "GFLOP/s": round(row["GFLOP/s"]), "% of peak": round((100 * row["GFLOP/s"]) / peak) })),
    note: "best of all repetitions, forward and backward, the Switch balance loss included",
  };
}
