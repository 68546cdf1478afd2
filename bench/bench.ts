import { execFileSync } from "node:child_process";
import { cpus, loadavg, totalmem } from "node:os";
import type { Engine } from "../src/engine/engine.js";

/** What `npm run bench NAME -- --json` prints: one object. */
export interface BenchResult {
  name: string;
  /** The figures' unit, higher being better, e.g. "GFLOP/s" or "tokens/s". */
  unit: string;
  ours: number;
  /** The best of the baselines of the same run; null when it could not be run, and `note` says why. */
  peer: number | null;
  /** ours / peer. */
  ratio: number | null;
  /** What the machine could do at most, measured in the same run, in `unit` or as `peakUnit` says; null when it does not apply. */
  peak: number | null;
  peakUnit?: string;
  machine: Machine;
  /** One line per case. */
  rows: Record<string, string | number | null>[];
  note?: string;
}

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  isa: string;
  threads: number;
  node: string;
  /** Load average of the last minute before the run: other work makes every figure worse. */
  load: number;
  commit: string;
}

export function machine(engine: Engine): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    isa: engine.isa,
    threads: engine.threads,
    node: process.version,
    load: Math.round((loadavg()[0] as number) * 100) / 100,
    commit: commit(),
  };
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "not a checkout";
  }
}

export const round = (x: number, decimals = 1): number => Math.round(x * 10 ** decimals) / 10 ** decimals;

/** Three significant digits. */
export const rounded = (x: number): number => Number(x.toPrecision(3));

/** Median of a non-empty list. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] as number) + (sorted[sorted.length >> 1] as number)) / 2;
}

/** Seconds of each call, the contenders taking turns, so that a slow moment of the machine hits all of them. */
export function interleave(contenders: readonly (() => void)[], repetitions: number): number[][] {
  const seconds: number[][] = contenders.map(() => []);
  for (let r = 0; r < repetitions; r++) {
    contenders.forEach((run, i) => {
      const start = performance.now();
      run();
      seconds[i]?.push((performance.now() - start) / 1e3);
    });
  }
  return seconds;
}
