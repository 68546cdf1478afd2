/** The same character model trained by PyTorch. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { baselineScript, torchPython } from "./torch.js";

export interface TorchCharacters {
  loss: number;
  /** Of training and evaluation. */
  seconds: number;
}

/** torch_char.py, which stands beside the baseline script whose model it trains. */
export function characterScript(): string | undefined {
  const baseline = baselineScript();
  const script = baseline === undefined ? undefined : join(dirname(baseline), "torch_char.py");
  return script !== undefined && existsSync(script) ? script : undefined;
}

/** Minutes of work. Undefined, with what went wrong on stderr, when the script fails. */
export function torchCharacters(script: string, data: string, kind: string, seed: number): TorchCharacters | undefined {
  const { stdout, stderr, error } = spawnSync(torchPython(), [script, data, kind, String(seed)], { encoding: "utf8" });
  const line = (stdout ?? "").split("\n").find((l) => l.startsWith('{"kind"'));
  if (line === undefined) {
    console.error(`bench: PyTorch failed: ${error?.message ?? stderr.trim().split("\n").at(-1)}`);
    return undefined;
  }
  const { val, seconds } = JSON.parse(line) as { val: number; seconds: number };
  return { loss: val, seconds };
}
