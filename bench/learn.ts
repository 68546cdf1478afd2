/**
 * Does the trainer learn what PyTorch learns, and is the sparse model better than the equally expensive dense one?
 * npm run bench learn -- [--seeds 1337,1,2] [--kind dense,moe] [--steps 2000] [--data FILE] [--no-peer | --peer-once] [--json]
 *
 * Tiny Shakespeare by characters in nanoGPT's CPU setting: 4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps of
 * AdamW, 1e-3 to 1e-4. Dense: SwiGLU of width 344. MoE: 32 experts of width 86, top-4, renormalised, Switch loss 0.03 per
 * layer; so equal FLOPs. The loss is that of the whole last tenth of the text.
 */
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import type { MoeOptions } from "../src/model/presets.js";
import { type BenchResult, machine, median, round } from "./bench.js";
import { characterScript, type TorchCharacters, torchCharacters } from "./peers/torch/characters.js";
import { expertHidden, readCharacters, trainCharacters } from "./tasks/characters.js";

const kinds: Readonly<Record<string, MoeOptions | false>> = {
  dense: false,
  moe: { experts: 32, active: 4, hidden: expertHidden, router: "mixtral", balance: { method: "switch", coefficient: 0.03 } },
};
/** Nats by which the sparse model must be below the dense one of its seed, and the dense one's own limit. */
const target = { gain: 0.02, dense: 1.7, speed: 3 };

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({
    args,
    options: {
      seeds: { type: "string", default: "1337,1,2" },
      kind: { type: "string", default: "dense,moe" },
      steps: { type: "string", default: "2000" },
      data: { type: "string" },
      "no-peer": { type: "boolean", default: false },
      "peer-once": { type: "boolean", default: false },
    },
  });
  const characters = readCharacters(values.data);
  const engine = loadEngine();
  const load = machine(engine);
  const steps = Number(values.steps);
  // The script's 2,000 steps are fixed.
  const script = values["no-peer"] || steps !== 2000 ? undefined : characterScript();
  const runs: { seed: number; kind: string; loss: number; seconds: number; torch: TorchCharacters | undefined }[] = [];
  for (const [i, seed] of values.seeds.split(",").map(Number).entries()) {
    for (const kind of values.kind.split(",")) {
      const moe = kinds[kind];
      if (moe === undefined) throw new Error(`--kind: expected ${Object.keys(kinds).join(" or ")}, got "${kind}"`);
      const { loss, seconds } = await trainCharacters(engine, characters, { steps, learningRate: 1e-3, seed, moe });
      const torch = script === undefined || (values["peer-once"] && i > 0) ? undefined : torchCharacters(script, characters.file, kind, seed);
      runs.push({ seed, kind, loss, seconds, torch });
      console.error(`seed ${seed} ${kind}: loss ${loss.toFixed(4)} in ${seconds.toFixed(1)} s${torch === undefined ? "" : `; PyTorch ${torch.loss} in ${torch.seconds} s`}`);
    }
  }

  const gain = (seed: number, loss: number) => (runs.find((r) => r.seed === seed && r.kind === "dense")?.loss ?? Number.NaN) - loss;
  const rows = runs.map(({ seed, kind, loss, seconds, torch }) => ({
    seed,
    kind,
    loss: round(loss, 4),
    "below dense": kind === "moe" ? round(gain(seed, loss), 4) : null,
    seconds: round(seconds, 1),
    "PyTorch loss": torch?.loss ?? null,
    "PyTorch seconds": torch?.seconds ?? null,
    speedup: torch === undefined ? null : round(torch.seconds / seconds, 2),
  }));
  // The sparse model is the one whose time has a target.
  const timed = runs.filter(({ kind }) => kind === (values.kind.includes("moe") ? "moe" : "dense"));
  const peers = timed.flatMap(({ torch }) => (torch === undefined ? [] : [torch.seconds]));
  const ours = steps / median(timed.map(({ seconds }) => seconds));
  const peer = peers.length === 0 ? null : steps / median(peers);
  return {
    name: "learn",
    unit: `steps/s (${timed[0]?.kind})`,
    ours,
    peer,
    ratio: peer === null ? null : ours / peer,
    peak: null,
    machine: load,
    rows,
    note: `Wanted: dense at most ${target.dense} for each seed, moe at least ${target.gain} below it, in at most 1/${target.speed} of PyTorch's time.`,
  };
}
