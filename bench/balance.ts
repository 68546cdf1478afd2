/**
 * What does each way of balancing do to the load, and what does it cost in loss?
 * npm run bench balance -- [--experts 32] [--active 4] [--steps 1000] [--rate 1e-3] [--seed 1337] [--only NAME,...] [--data FILE] [--json]
 *
 * The model and text of the question `learn`. MaxVio = max load / mean load - 1 (Wang et al. 2024, arXiv 2408.15664): per batch,
 * averaged over the last 100 steps, and over the whole validation text ("global"); of the worst layer. `floor`: what uniformly
 * random choices would give. Dead: experts with less than 1 % of the mean load on the validation text, over all layers.
 */
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import type { MoeOptions } from "../src/model/presets.js";
import { maxViolation, maxViolationFloor } from "../src/routing/statistics.js";
import { type BenchResult, machine, round } from "./bench.js";
import { batch, context, expertHidden, readCharacters, trainCharacters } from "./tasks/characters.js";

/** Steps whose batches are averaged. */
const lastSteps = 100;

const lossFree = (rate: number, update: "sign" | "proportional"): MoeOptions => ({ balance: { method: "loss-free", rate, update } });
const methods: Readonly<Record<string, MoeOptions>> = {
  none: { balance: { method: "none" } },
  "aux 0.001": { balance: { method: "switch", coefficient: 0.001 } },
  "aux 0.01": { balance: { method: "switch", coefficient: 0.01 } },
  "aux 0.1": { balance: { method: "switch", coefficient: 0.1 } },
  "z-loss 0.001": { balance: { method: "none" }, zLoss: 0.001 },
  "loss-free sign 1e-3": lossFree(1e-3, "sign"),
  "loss-free sign 1e-2": lossFree(1e-2, "sign"),
  "loss-free proportional 1e-2": lossFree(1e-2, "proportional"),
};

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({
    args,
    options: {
      experts: { type: "string", default: "32" },
      active: { type: "string", default: "4" },
      steps: { type: "string", default: "1000" },
      rate: { type: "string", default: "1e-3" },
      seed: { type: "string", default: "1337" },
      only: { type: "string" },
      data: { type: "string" },
    },
  });
  const characters = readCharacters(values.data);
  const engine = loadEngine();
  const load = machine(engine);
  const [experts, active, steps, learningRate, seed] = [values.experts, values.active, values.steps, values.rate, values.seed].map(Number) as [number, number, number, number, number];
  const rows: BenchResult["rows"] = [];
  const batchViolation: Record<string, number> = {};
  for (const [name, method] of Object.entries(methods)) {
    if (values.only !== undefined && !values.only.split(",").includes(name)) continue;
    let step = 0;
    const sums: number[] = [];
    const moe = { experts, active, hidden: expertHidden, router: "mixtral", ...method } as const;
    const { loss, routing, seconds } = await trainCharacters(engine, characters, { steps, learningRate, seed, moe }, (result) => {
      if (step++ < steps - lastSteps) return;
      result.load.forEach((count_E, l) => (sums[l] = (sums[l] ?? 0) + maxViolation(Array.from(count_E)) / lastSteps));
    });
    batchViolation[name] = Math.max(...sums);
    rows.push({
      balancing: name,
      loss: round(loss, 4),
      "MaxVio batch": round(Math.max(...sums), 2),
      "MaxVio global": round(Math.max(...routing.map((r) => r.maxvio)), 2),
      dead: routing.reduce((sum, r) => sum + r.dead, 0),
      "load entropy": round(Math.min(...routing.map((r) => r.load_entropy)), 2),
      seconds: round(seconds),
    });
    console.error(Object.entries(rows.at(-1) ?? {}).map(([key, value]) => `${key} ${value}`).join(", "));
  }

  const floor = (choices: number) => maxViolationFloor(experts, choices * active).toFixed(2);
  const freeOfLoss = Object.entries(batchViolation).filter(([name]) => name.startsWith("loss-free"));
  const ours = freeOfLoss.length === 0 ? Number.NaN : Math.min(...freeOfLoss.map(([, violation]) => violation));
  const peer = batchViolation["aux 0.01"] ?? null;
  return {
    name: "balance",
    unit: "MaxVio per batch of the best loss-free row, the peer being the auxiliary loss 0.01 (lower is better)",
    ours,
    peer,
    ratio: peer === null ? null : ours / peer,
    peak: null,
    machine: load,
    rows,
    note:
      `${experts} experts of ${expertHidden}, top-${active}, ${steps} steps, learning rate ${learningRate}, seed ${seed}. ` +
      `Uniformly random choices would give MaxVio ${floor(batch * context)} per batch and ${floor(characters.validation.length)} globally.\n` +
      "Wanted: none: an expert dead or MaxVio above 2; loss-free: at most half the MaxVio of aux 0.01.",
  };
}
