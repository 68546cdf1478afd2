/**
 * node under-budget.js FILE.gguf BYTES TOKENS: runs a prompt of 64 tokens under a memory budget, 0 for none. Then, for each line of its input, which is a number, runs so
 * many others, TOKENS at most, one by one, and prints a line; at the end of its input what all that came to, as JSON. A process of its own, because the budget and the peak are the process's.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Arena } from "../../src/engine/arena.js";
import { Model } from "../../src/generate/model.js";
import { addCounts, type CacheReport, cacheReport, measureReadRate } from "../../src/inspect/residency.js";
import { forwardTokens } from "../../src/inspect/speed.js";
import { KvCache } from "../../src/model/cache.js";
import { emptyCounts } from "../../src/model/residency/counts.js";

export interface Measured extends CacheReport {
  tokensPerSecond: number;
  /** Of all logits. */
  hash: string;
  /** Resident memory at most, in MB. */
  peak: number;
  missedPerToken: number;
  /** Bytes per second; 0 without a budget. */
  readRate: number;
}

/** Tokens of the prompt, and after it until the cache is warm. */
const [promptTokens, warmTokens] = [64, 16];

const [file, budget, tokens] = [process.argv[2] as string, Number(process.argv[3]), Number(process.argv[4])];
using model = await Model.load(file, budget > 0 ? { memory: budget } : {});
const { engine } = model;
const { cache: experts } = model.parameters;
using cache = new KvCache(engine, model.config, promptTokens + warmTokens + tokens, model.kv);
using arena = new Arena(engine);
const hash = createHash("sha256");
run(promptTokens);
for (let i = 0; i < warmTokens; i++) run(1);

const rateBefore = readRate();
const before = { ...(experts?.counts ?? emptyCounts()) };
let [done, seconds] = [0, 0];
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const start = performance.now();
  for (let i = 0; i < Number(line); i++) run(1);
  seconds += (performance.now() - start) / 1000;
  done += Number(line);
  console.log("done");
}
const counts = emptyCounts();
if (experts !== undefined) addCounts(counts, experts.counts, before);
const measured: Measured = {
  tokensPerSecond: done / seconds,
  hash: hash.digest("hex"),
  peak: Math.round((Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024) / 1e6),
  ...cacheReport(counts),
  missedPerToken: ((counts.needed - counts.hits) / done) * (experts?.bytesPerSlot ?? 0),
  readRate: (rateBefore + readRate()) / 2,
};
console.log(JSON.stringify(measured));

function run(count: number): void {
  hash.update(new Uint8Array(forwardTokens(model, arena, cache, count).buffer));
}

function readRate(): number {
  return experts === undefined ? 0 : measureReadRate(engine, experts.layers);
}
