/**
 * Which ops take the time of a training step?
 * npm run bench profile -- [--shape s|s64|s8|xs] [--precision f32|bf16] [--steps 10] [--json]
 */
import { parseArgs } from "node:util";
import { type BenchResult, machine } from "./bench.js";
import { shapes, subject } from "./tasks/subject.js";

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({ args, options: { shape: { type: "string", default: "s" }, precision: { type: "string", default: "f32" }, steps: { type: "string", default: "10" } } });
  const { trainer, next, tokens } = subject(shapes[values.shape as keyof typeof shapes], values.precision as "f32" | "bf16");
  const { engine } = trainer.model;
  const spent = new Map<string, { seconds: number; calls: number }>();
  const methods = engine as unknown as Record<string, unknown>;
  methods["together"] = (compute: () => unknown) => compute(); // not from a list, where ops would take no time when they are called
  const done = new Set(["together", "constructor"]);
  for (let level: object = engine; level !== Object.prototype; level = Object.getPrototypeOf(level) as object) {
    for (const [name, { value: method }] of Object.entries(Object.getOwnPropertyDescriptors(level))) {
      if (typeof method !== "function" || done.has(name)) continue;
      done.add(name);
      methods[name] = (...parameters: unknown[]) => {
        const start = performance.now();
        const result: unknown = Reflect.apply(method, engine, parameters);
        const label = name.endsWith("atmul") ? `${name} ${String(parameters[0])} -> ${String(parameters[1])}` : name;
        const entry = spent.get(label) ?? { seconds: 0, calls: 0 };
        spent.set(label, { seconds: entry.seconds + (performance.now() - start) / 1e3, calls: entry.calls + 1 });
        return result;
      };
    }
  }
  const steps = Number(values.steps);
  for (let i = 0; i < 2; i++) trainer.train(next);
  spent.clear();
  const start = performance.now();
  for (let i = 0; i < steps; i++) trainer.train(next);
  const total = (performance.now() - start) / 1e3;
  const inOps = [...spent.values()].reduce((sum, { seconds }) => sum + seconds, 0);
  spent.set("TypeScript between the ops", { seconds: total - inOps, calls: 0 });
  const rows = [...spent]
    .sort(([, a], [, b]) => b.seconds - a.seconds)
    .map(([op, { seconds, calls }]) => ({ op, "ms/step": Math.round((seconds / steps) * 1e5) / 100, "calls/step": calls / steps, "%": Math.round((1000 * seconds) / total) / 10 }));
  return { name: `profile ${values.shape} ${values.precision}`, unit: "tokens/s", ours: (tokens * steps) / total, peer: null, ratio: null, peak: null, machine: machine(engine), rows };
}
