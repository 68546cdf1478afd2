/**
 * Is memory flat over 1,000 steps, and how much does training need beside PyTorch?
 * npm run bench memory -- [--steps 1000] [--no-peer] [--json]
 *
 * Flat: shape XS (width 128, 4 layers, 8 experts of 128, top-2, context 64, batch 12) in this process; what the kernel counts as
 * resident after step 50, the most after any later step, and the last; V8's young generation does not grow, as in the command `train`. It is filled with
 * garbage before it is reused, so the heap is measured after a full collection too.
 * Peak: resident memory of shape S, in a process of its own, as of each PyTorch mode.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Engine } from "../src/engine/engine.js";
import { loadEngine } from "../src/engine/load.js";
import { type BenchResult, machine } from "./bench.js";
import { baselineScript, torchBaseline } from "./peers/torch/torch.js";
import { shapes, subject } from "./tasks/subject.js";

const warmSteps = 50;
const target = { growth: 0.01, peak: 0.6 };

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({ args, options: { steps: { type: "string", default: "1000" }, "no-peer": { type: "boolean", default: false } } });
  const engine = loadEngine();
  const load = machine(engine);
  const { resident, heap } = flatness(engine, Number(values.steps));
  const growth = (now: number, before: number) => percent((now - before) / before);
  const ours = peakOfShapeS();
  const script = values["no-peer"] ? undefined : baselineScript();
  // One process per mode, so that their peaks do not mix.
  const torch = script === undefined ? [] : ["loop", "hf-eager", "hf-grouped"].flatMap((mode) => torchBaseline(script, { ...shapes.s, steps: 3 }, [mode], false));
  const peer = torch.length === 0 ? null : Math.min(...torch.map(({ maxRssMiB }) => maxRssMiB));
  return {
    name: "memory",
    unit: "MiB of peak resident memory at shape S (lower is better)",
    ours,
    peer,
    ratio: peer === null ? null : ours / peer,
    peak: null,
    machine: load,
    rows: [
      { what: `XS resident, after ${warmSteps} steps`, MiB: mebi(resident.warm), growth: null },
      { what: `XS resident, most until step ${values.steps}`, MiB: mebi(resident.most), growth: growth(resident.most, resident.warm) },
      { what: `XS resident, after step ${values.steps}`, MiB: mebi(resident.last), growth: growth(resident.last, resident.warm) },
      { what: `XS V8 heap after collection, step ${warmSteps}`, MiB: mebi(heap.warm), growth: null },
      { what: `XS V8 heap after collection, step ${values.steps}`, MiB: mebi(heap.last), growth: growth(heap.last, heap.warm) },
      { what: "S peak resident", MiB: ours, growth: null },
      ...torch.map(({ mode, maxRssMiB }) => ({ what: `S peak resident, PyTorch ${mode}`, MiB: maxRssMiB, growth: null })),
    ],
    note: `Wanted: XS resident memory grows by less than ${percent(target.growth)}; the peak at S is at most ${target.peak} of PyTorch's least.`,
  };
}

const mebi = (bytes: number) => Math.round((bytes / 2 ** 20) * 10) / 10;
const percent = (x: number) => `${(100 * x).toFixed(2)} %`;

/** Bytes after `warmSteps` and later, while training at shape XS. */
function flatness(engine: Engine, steps: number): { resident: { warm: number; most: number; last: number }; heap: { warm: number; last: number } } {
  setFlagsFromString("--semi-space-growth-factor=1");
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const heapUsed = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const { trainer, next } = subject(shapes.xs, "f32", engine);
  for (let i = 0; i < warmSteps; i++) trainer.train(next);
  const heapWarm = heapUsed();
  const resident = { warm: process.memoryUsage.rss(), most: 0, last: 0 };
  for (let i = warmSteps; i < steps; i++) {
    trainer.train(next);
    resident.last = process.memoryUsage.rss();
    resident.most = Math.max(resident.most, resident.last);
  }
  return { resident, heap: { warm: heapWarm, last: heapUsed() } };
}

/** MiB: the question `train-step`, in a process of its own. */
function peakOfShapeS(): number {
  const { stdout, stderr } = spawnSync(process.execPath, [fileURLToPath(new URL("main.js", import.meta.url)), "train-step", "--shape", "s", "--rounds", "1", "--no-peer", "--json"], { encoding: "utf8" });
  const line = stdout.split("\n").find((l) => l.startsWith("{"));
  if (line === undefined) throw new Error(`the child process at shape S failed: ${stderr}`);
  return (JSON.parse(line) as BenchResult).rows[0]?.["RSS MiB"] as number;
}
