// node greedy.mjs FILE.gguf.. < {"prompts": [[ids]], "count": n}: prints {"ids": [[...]]} for each file, after each prompt the most likely token again and
// again, as llama.cpp computes it. On one thread: these models are tiny.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { readFileSync } from "node:fs";

const { prompts, count } = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1 });
for (const modelPath of process.argv.slice(2)) {
  const model = await llama.loadModel({ modelPath, useMmap: true });
  const context = await model.createContext({ contextSize: 256, threads: 1, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" });
  const sequence = context.getSequence();
  const ids = [];
  for (const prompt of prompts) {
    await sequence.clearHistory();
    const answer = [];
    // Without a key for it llama.cpp takes token 11 for the end of a text.
    for await (const id of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) if (answer.push(id) === count) break;
    ids.push(answer);
  }
  console.log(JSON.stringify({ ids }));
  await model.dispose();
}
process.exit(0);
