/** PyTorch on the same CPU: an environment of its own, made on demand outside the package, and the baseline script run in it. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const home = join(homedir(), ".cache", "switchyard", "torch");
const packages = ["torch==2.13.0", "transformers==5.23.0", "numpy"];

/** A Python with PyTorch: $SWITCHYARD_TORCH_PYTHON, or one that is set up in ~/.cache/switchyard on first use. Throws when that fails. */
export function torchPython(): string {
  const given = process.env["SWITCHYARD_TORCH_PYTHON"];
  if (given !== undefined) return given;
  const python = join(home, "bin", "python");
  if (!existsSync(python) || spawnSync(python, ["-c", "import torch, transformers"]).status !== 0) {
    console.error(`bench: installing ${packages.join(", ")} into ${home}`);
    execFileSync("python3", ["-m", "venv", home], { stdio: "inherit" });
    execFileSync(python, ["-m", "pip", "install", "--quiet", ...packages], { stdio: "inherit" });
  }
  return python;
}

export interface TorchRun {
  mode: string;
  compiled: boolean;
  tokensPerSecond: number;
  gflops: number;
  maxRssMiB: number;
}

/**
 * Where the baseline script is: $SWITCHYARD_TORCH_BASELINE, or beside the checkout. It prints one JSON line per mode with
 * tokens_per_s, gflops and max_rss_mb.
 */
export function baselineScript(): string | undefined {
  const candidates = [process.env["SWITCHYARD_TORCH_BASELINE"], new URL("../../../../../../shared/tools/torch_baseline.py", import.meta.url).pathname];
  return candidates.find((path) => path !== undefined && existsSync(path));
}

/** Where our kernels are kept to AVX2, PyTorch's are too: its own, those that it compiles, and oneDNN's. */
const sameInstructions = () => (process.env["SWITCHYARD_ISA"] === "avx2" ? { ATEN_CPU_CAPABILITY: "avx2", ONEDNN_MAX_CPU_ISA: "AVX2" } : {});

/** Runs the baseline at a shape; modes that fail are left out. */
export function torchBaseline(script: string, shape: Readonly<Record<string, number>>, modes: readonly string[], compiled: boolean): TorchRun[] {
  const flags = Object.entries(shape).flatMap(([key, value]) => [`--${key}`, String(value)]);
  const { stdout } = spawnSync(torchPython(), [script, ...flags, "--modes", modes.join(","), ...(compiled ? ["--compile"] : [])], { encoding: "utf8", maxBuffer: 2 ** 26, env: { ...process.env, ...sameInstructions() } });
  return stdout
    .split("\n")
    .filter((line) => line.startsWith("{") && line.includes("tokens_per_s"))
    .map((line) => {
      const { mode, tokens_per_s, gflops, max_rss_mb } = JSON.parse(line.replace(/\bNaN\b/g, "null")) as { mode: string; tokens_per_s: number; gflops: number; max_rss_mb: number };
      return { mode, compiled, tokensPerSecond: tokens_per_s, gflops, maxRssMiB: max_rss_mb };
    });
}
