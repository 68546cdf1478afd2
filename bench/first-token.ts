/**
 * How long from the start of a process to the first token, beside llama.cpp on the same file?
 * npm run bench first-token -- FILE.gguf [--rounds 3] [--no-peer] [--json]
 *
 * The file is in the page cache. A prompt of 64 tokens, after which the first token is known; a process of its own each time, taking turns; the fastest counts.
 */
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import { type BenchResult, machine } from "./bench.js";
import { LlamaSpeed } from "./peers/llama-cpp/llama-cpp.js";
import { runProgram, sourceUrl } from "./tasks/program.js";

const promptTokens = 64;

export async function run(args: string[]): Promise<BenchResult> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { rounds: { type: "string", default: "3" }, "no-peer": { type: "boolean", default: false } } });
  const [file] = positionals;
  if (file === undefined) throw new Error("first-token: name a .gguf file; switchyard make-model writes one of random weights");
  const engine = loadEngine();
  execFileSync("sh", ["-c", 'cat "$0" > /dev/null', file]);
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round < Number(values.rounds); round++) {
    ours.push(firstToken(file));
    if (!values["no-peer"]) theirs.push(await firstTokenOfPeer(file, engine.threads));
  }
  const [mine, other] = [Math.min(...ours), theirs.length === 0 ? null : Math.min(...theirs)];
  const rows = ours.map((seconds, round) => ({ round, "switchyard s": Math.round(100 * seconds) / 100, "llama.cpp s": theirs[round] === undefined ? null : Math.round(100 * theirs[round]) / 100 }));
  return { name: "first-token", unit: "seconds to the first token (lower is better)", ours: mine, peer: other, ratio: other === null ? null : mine / other, peak: null, machine: machine(engine), rows };
}

function firstToken(file: string): number {
  const program = `
    const { Model } = await import(${sourceUrl("generate/model.js")});
    const { generate } = await import(${sourceUrl("generate/generate.js")});
    const model = await Model.load(${JSON.stringify(file)});
    const prompt = Int32Array.from({ length: ${promptTokens} }, (_, i) => (i * 7919 + 100) % model.config.vocab);
    for await (const _ of generate(model, prompt, { maxTokens: 1, temperature: 0 })) break;`;
  const start = performance.now();
  runProgram(program);
  return (performance.now() - start) / 1000;
}

async function firstTokenOfPeer(file: string, threads: number): Promise<number> {
  const start = performance.now();
  await using peer = await LlamaSpeed.load(file, threads, 1024);
  await peer.run(`pp${promptTokens}`, 0);
  return (performance.now() - start) / 1000;
}
