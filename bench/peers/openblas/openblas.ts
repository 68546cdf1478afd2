/** OpenBLAS on the same CPU, through a small C program that is compiled on demand (Debian: apt-get install libopenblas-dev). */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { MatmulForm } from "../../../src/engine/engine.js";

const root = fileURLToPath(new URL("../../../../../", import.meta.url)); // of build/bench/bench/peers/openblas
const program = `${root}build/openblas`;

/** Compiles the program; false when there is no compiler or no OpenBLAS. */
export function openblasAvailable(): boolean {
  mkdirSync(`${root}build`, { recursive: true });
  const source = `${root}bench/peers/openblas/openblas.c`;
  return spawnSync("cc", ["-O2", source, "-o", program, "-lopenblas"]).status === 0;
}

/** Seconds of each of `rounds` loops of one product per expert; `k` is the width of the rows of the weights, `n` their number. */
export function openblasLoop(form: MatmulForm, n: number, k: number, counts: readonly number[], rounds: number, threads: number): number[] {
  const [inner, outer] = form === "nn" ? [n, k] : [k, n];
  const args = [form, String(outer), String(inner), String(rounds), ...counts.map(String)];
  const output = execFileSync(program, args, { encoding: "utf8", env: { ...process.env, OPENBLAS_NUM_THREADS: String(threads) } });
  return output.trim().split("\n").map(Number);
}
