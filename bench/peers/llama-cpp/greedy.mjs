// node greedy.mjs FILE.gguf < {"prompt": [ids], "count": n}: prints {"ids": [...]}, the most likely token again and again, as llama.cpp computes it. On one
// thread: these models are tiny.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { readFileSync } from "node:fs";

const { prompt, count } = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1 });
const model = await llama.loadModel({ modelPath: process.argv[2], useMmap: true });
const context = await model.createContext({ contextSize: 256, threads: 1, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" });
const ids = [];
for await (const id of context.getSequence().evaluate(prompt, { temperature: 0 })) if (ids.push(id) === count) break;
console.log(JSON.stringify({ ids }));
process.exit(0);
