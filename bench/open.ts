/**
 * How long does opening a 17 GB GGUF file take, and how much memory?
 * npm run bench open -- [--json]
 *
 * A file in the shape of Qwen3-30B-A3B in Q4_0: real metadata with a vocabulary of 151,936 tokens and as many merges, every tensor, and
 * holes where their data would be. Each measurement is a process of its own: its time from start to end, its peak resident memory.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadEngine } from "../src/engine/load.js";
import { encodeGgufHeader } from "../src/formats/gguf/writer.js";
import { readHfConfig } from "../src/model/families/hf-config.js";
import { publishedConfig } from "../src/model/families/published.js";
import { randomGguf } from "../src/model/random-gguf.js";
import { byteCharacters } from "../src/tokenizer/byte-level.js";
import { type BenchResult, machine } from "./bench.js";
import { runProgram, sourceUrl } from "./tasks/program.js";

const repetitions = 3;
const target = { seconds: 2, megabytes: 300 };

export async function run(): Promise<BenchResult> {
  const folder = mkdtempSync(join(tmpdir(), "switchyard-open-"));
  try {
    const file = join(folder, "qwen3-30b-a3b-q4_0.gguf");
    writeSparse(file);
    const rows = [
      { what: "node that does nothing", ...measure("") },
      { what: "inspect", ...measure(`const { inspect } = await import(${sourceUrl("inspect/inspect.js")}); await inspect(${JSON.stringify(file)});`) },
      { what: "loaded, with its tokenizer", ...measure(`const { LanguageModel } = await import(${sourceUrl("model/language-model.js")}); await LanguageModel.load(${JSON.stringify(file)});`) },
    ];
    const worst = Math.max(...rows.map((row) => row["wall s"]));
    return {
      name: "open",
      unit: `seconds to open ${(statSync(file).size / 1e9).toFixed(1)} GB (lower is better)`,
      ours: worst,
      peer: null,
      ratio: null,
      peak: null,
      machine: machine(loadEngine()),
      rows,
      note: `Wanted: less than ${target.seconds} s and ${target.megabytes} MB resident. Least of ${repetitions} runs; other programs on the machine lengthen the wall time.`,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function writeSparse(path: string): void {
  const { config } = readHfConfig(publishedConfig("qwen3-30b-a3b"), "qwen3-30b-a3b");
  const { metadata, tensors } = randomGguf(config, "Q4_0", 1);
  const { tokens, merges } = vocabulary(config.vocab);
  metadata.set("tokenizer.ggml.tokens", { type: "array", of: "string", value: tokens });
  metadata.set("tokenizer.ggml.merges", { type: "array", of: "string", value: merges });
  metadata.set("tokenizer.ggml.token_type", { type: "array", of: "i32", value: new Int32Array(tokens.length).fill(1) });
  const { header, fileBytes } = encodeGgufHeader(metadata, tensors);
  const fd = openSync(path, "w");
  writeSync(fd, header);
  ftruncateSync(fd, fileBytes);
  closeSync(fd);
}

/** As many tokens and merges as a real vocabulary has: the bytes, then pairs and triples of some of them. */
function vocabulary(size: number): { tokens: string[]; merges: string[] } {
  const letters = byteCharacters.slice(60, 114);
  const merges = letters.flatMap((a) => letters.map((b) => `${a} ${b}`));
  const triples = letters.flatMap((a) => letters.flatMap((b) => letters.map((c) => `${a}${b} ${c}`)));
  const all = [...merges, ...triples].slice(0, size - byteCharacters.length);
  return { tokens: [...byteCharacters, ...all.map((merge) => merge.replace(" ", ""))], merges: all };
}

function measure(code: string): { "wall s": number; "processor s": number; "resident MB": number } {
  // The kernel's high-water mark of this program alone; maxRSS would count what its parent had.
  const report = 'const { readFileSync } = await import("node:fs"); const { user, system } = process.cpuUsage(); console.error(`used ${(user + system) / 1e6} ${/VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]}`);';
  const runs = Array.from({ length: repetitions }, () => {
    const start = performance.now();
    const stderr = runProgram(`${code} ${report}`);
    const wall = (performance.now() - start) / 1000;
    const [, processor, kibibytes] = /used (\S+) (\d+)/.exec(stderr) ?? [];
    return [wall, Number(processor), (Number(kibibytes) * 1024) / 1e6];
  });
  const least = (column: number, unit: number) => Math.round(Math.min(...runs.map((figures) => figures[column] as number)) * unit) / unit;
  return { "wall s": least(0, 100), "processor s": least(1, 100), "resident MB": least(2, 1) };
}
