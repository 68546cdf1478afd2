// npm run fuzz -- TARGET [--inputs 100000] [--seed 1] [--first 0]: feeds a reader hostile inputs. The same seed gives the same inputs; after a
// failure, `--first N --inputs 1` repeats the one that it names.
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { fuzz, type TargetName, targets } from "./run.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { inputs: { type: "string", default: "100000" }, seed: { type: "string", default: "1" }, first: { type: "string", default: "0" } },
});
const [name] = positionals;
const [inputs, seed, first] = [values.inputs, values.seed, values.first].map(Number) as [number, number, number];
if (name === undefined || !Object.hasOwn(targets, name) || ![inputs, seed, first].every((n) => Number.isSafeInteger(n) && n >= 0) || seed >= 2 ** 21) {
  console.error(`usage: npm run fuzz -- TARGET [--inputs N] [--seed N] [--first N]; targets:\n${Object.entries(targets).map(([key, { about }]) => `  ${key.padEnd(12)} ${about}`).join("\n")}`);
  process.exit(2);
}
// A process of its own works, so that its end is told, whatever it was.
if (process.env["SWITCHYARD_FUZZ_WORKER"] === undefined) {
  const { status, signal } = spawnSync(process.execPath, process.argv.slice(1), { stdio: "inherit", env: { ...process.env, SWITCHYARD_FUZZ_WORKER: "1" } });
  if (status !== 0) console.error(`${name}: the process ended with ${signal ?? `status ${status}`}`);
  process.exit(status ?? 1);
}
// Millions of refusals: without stack traces they take half the time.
Error.stackTraceLimit = first > 0 ? 10 : 0;
const mebibytes = (): number => process.memoryUsage().rss / 2 ** 20;
const start = performance.now();
let shown = start;
// After a tenth of the run everything is compiled and the heap has found its size.
let settled = 0;
const result = fuzz(name as TargetName, inputs, seed, {
  first,
  progress: (done) => {
    if (settled === 0 && done >= inputs / 10) settled = mebibytes();
    if (performance.now() - shown < 10_000) return;
    shown = performance.now();
    console.error(`${name}: ${done} of ${inputs}, ${Math.round((1000 * done) / (shown - start))} per second, ${Math.round(mebibytes())} MiB`);
  },
});
const seconds = (performance.now() - start) / 1000;
console.log(JSON.stringify({ ...result, seconds: Math.round(seconds), perSecond: Math.round(inputs / seconds), memoryGrowthMiB: Math.round(mebibytes() - settled) }));
