// node speed.mjs FILE.gguf THREADS CONTEXT: loads it, prints {"loadSeconds"}, then answers each line {"test": "pp" | "tg", "n", "depth"} of the standard
// input with {"tokensPerSecond"}. As the package comes: repacked weights, a cache in f16. Generation is timed from its first token on, so that the
// prompt of one token is not part of it.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { createInterface } from "node:readline";

const [file, threads, contextSize] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: Number(threads) });
const start = performance.now();
const model = await llama.loadModel({ modelPath: file, useMmap: true });
const context = await model.createContext({ contextSize: Number(contextSize), batchSize: 512, threads: Number(threads) });
const sequence = context.getSequence();
console.log(JSON.stringify({ loadSeconds: (performance.now() - start) / 1e3 }));

const tokens = (from, count) => Array.from({ length: count }, (_, i) => ((from + i) * 7919 + 100) % 30_000);
for await (const line of createInterface({ input: process.stdin })) {
  const { test, n, depth } = JSON.parse(line);
  await sequence.clearHistory();
  if (depth > 0) await sequence.evaluateWithoutGeneratingNewTokens(tokens(0, depth));
  console.log(JSON.stringify({ tokensPerSecond: test === "pp" ? await prompt(depth, n) : await generation(depth, n) }));
}
process.exit(0);

async function prompt(depth, n) {
  const begin = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(tokens(depth, n));
  return (1e3 * n) / (performance.now() - begin);
}

/** Fewer than n tokens where the model ends its text. */
async function generation(depth, n) {
  let begin = 0;
  let count = -1;
  for await (const _ of sequence.evaluate(tokens(depth, 1), { temperature: 0 })) {
    if (++count === 0) begin = performance.now();
    if (count === n) break;
  }
  return (1e3 * count) / (performance.now() - begin);
}
