/** transformers on checkpoints that Switchyard wrote, in the Python environment of the PyTorch peer. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { JsonObject } from "../../../src/formats/json.js";
import { torchPython } from "../torch/torch.js";

const script = (name: string): string => fileURLToPath(new URL(`../../../../../bench/peers/transformers/${name}.py`, import.meta.url)); // of build/bench/bench/peers/transformers

/**
 * Relative errors of the logits (max |difference| / max |value|), `lost` being what transformers itself loses in float32, and tensors that the
 * class lacks or does not know; or what went wrong.
 */
type TransformersResult = { class: string; float64: number; float32: number; lost: number; missing: string[]; unexpected: string[] } | { error: string };

/** Runs each checkpoint, small ones on which more threads only wait for each other, on the inputs of its golden and compares with the golden's logits. Throws when Python cannot be run. */
export function transformersLogits(pairs: readonly { checkpoint: string; golden: string }[]): TransformersResult[] {
  const input = JSON.stringify(pairs.map(({ checkpoint, golden }) => [checkpoint, golden]));
  const { stdout, stderr, error } = spawnSync(torchPython(), [script("logits")], { input, encoding: "utf8", maxBuffer: 2 ** 26, env: { ...process.env, OMP_NUM_THREADS: "1" } });
  const lines = (stdout ?? "").split("\n").filter((line) => line.startsWith("{"));
  if (lines.length !== pairs.length) throw new Error(`transformers: ${error?.message ?? stderr.trim().split("\n").slice(-3).join(" | ")}`);
  return lines.map((line) => JSON.parse(line) as TransformersResult);
}

/** Writes a new model of a golden's configuration, with these fields changed, that was trained on `text`. Throws what went wrong. */
export function transformersTrained(golden: string, target: string, task: { changes: JsonObject; text: readonly number[]; steps: number }): void {
  const { status, stderr, error } = spawnSync(torchPython(), [script("train"), golden, target], { input: JSON.stringify(task), encoding: "utf8" });
  if (status !== 0) throw new Error(`transformers: ${error?.message ?? stderr.trim().split("\n").slice(-1).join("")}`);
}
