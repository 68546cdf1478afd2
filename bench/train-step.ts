/**
 * How fast is a whole training step (forward, backward, clipping, AdamW) beside PyTorch's best mode on this CPU?
 * npm run bench train-step -- [--shape s|s64|xs] [--precision f32|bf16] [--rounds 3] [--no-peer] [--json]
 */
import { parseArgs } from "node:util";
import { type BenchResult, machine, median } from "./bench.js";
import { shapes, subject } from "./tasks/subject.js";
import { baselineScript, torchBaseline, type TorchRun } from "./peers/torch/torch.js";

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({
    args,
    options: { shape: { type: "string", default: "s" }, precision: { type: "string", default: "f32" }, rounds: { type: "string", default: "3" }, "no-peer": { type: "boolean", default: false } },
  });
  const shape = shapes[values.shape as keyof typeof shapes];
  const precision = values.precision as "f32" | "bf16";
  const { trainer, next, tokens, flops } = subject(shape, precision);
  const { engine } = trainer.model;
  const seconds: number[] = [];
  const torch: TorchRun[] = [];
  const script = values["no-peer"] ? undefined : baselineScript();
  const steps = values.shape === "xs" ? 60 : 8;
  const { peakGflops: measurePeak } = engine as { peakGflops?: () => number };
  let peakGflops: number | null = null;
  for (let i = 0; i < 3; i++) trainer.train(next);
  for (let round = 0; round < Number(values.rounds); round++) {
    // Not after PyTorch, whose processes may still be ending.
    if (measurePeak !== undefined) peakGflops = Math.max(peakGflops ?? 0, ...Array.from({ length: 9 }, () => measurePeak.call(engine)));
    for (let i = 0; i < steps; i++) {
      const start = performance.now();
      trainer.train(next);
      seconds.push((performance.now() - start) / 1e3);
    }
    if (script === undefined) continue;
    const suffix = precision === "bf16" ? "-bf16" : "";
    torch.push(...torchBaseline(script, { ...shape, steps }, [`hf-eager${suffix}`, `hf-grouped${suffix}`, `loop${suffix}`], false));
    torch.push(...torchBaseline(script, { ...shape, steps }, [`loop${suffix}`], true));
  }
  const ours = tokens / median(seconds);
  const modes = [...new Set(torch.map(({ mode, compiled }) => `${mode}${compiled ? " compiled" : ""}`))];
  const peers = modes.map((name) => {
    const runs = torch.filter(({ mode, compiled }) => `${mode}${compiled ? " compiled" : ""}` === name);
    return { who: `PyTorch ${name}`, "tokens/s": median(runs.map((r) => r.tokensPerSecond)), "GFLOP/s": Math.round(median(runs.map((r) => r.gflops)) * 10) / 10, "RSS MiB": Math.max(...runs.map((r) => r.maxRssMiB)) };
  });
  const gflops = flops / median(seconds) / 1e9;
  const rows = [{ who: `Switchyard ${engine.isa} ${precision}`, "tokens/s": Math.round(ours), "GFLOP/s": Math.round(gflops * 10) / 10, "RSS MiB": Math.round(process.resourceUsage().maxRSS / 1024) }, ...peers];
  const peer = peers.length === 0 ? null : Math.max(...peers.map((p) => p["tokens/s"]));
  return {
    name: `train-step ${values.shape} ${precision}`,
    unit: "tokens/s",
    ours: Math.round(ours),
    peer,
    ratio: peer === null ? null : ours / peer,
    peak: peakGflops,
    peakUnit: "GFLOP/s (f32, all threads)",
    machine: machine(engine),
    rows,
    ...(peakGflops === null ? {} : { note: `model FLOPs: ${gflops.toFixed(1)} GFLOP/s, ${((100 * gflops) / peakGflops).toFixed(0)} % of the measured f32 peak${script === undefined ? "; no PyTorch baseline" : ""}` }),
  };
}
