/**
 * How fast are prompts read and texts written, beside llama.cpp on the same file, taking turns?
 * npm run bench speed -- [--file F.gguf | --shape olmoe-1b-7b --type q4_k --layers N] [--prompt 512] [--generate 64] [--depth 0] [--rounds 5] [--no-peer] [--json]
 *
 * Random weights in a published shape unless there is a file. Both sides have the model loaded and two threads; a round measures the machine, then runs
 * each test here and there. What a shared machine gives changes from one minute to the next. Where memory does not hold the file twice, llama.cpp, which
 * copies it, is loaded for its turn and ended after it, and either side runs its tests once before, by which its weights come back to memory.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import { Model } from "../src/generate/model.js";
import { SpeedTests } from "../src/inspect/speed.js";
import { measurePeaks, type Peaks } from "../src/inspect/work.js";
import { readHfConfig } from "../src/model/families/hf-config.js";
import { publishedConfig, type PublishedShape } from "../src/model/families/published.js";
import { type RandomType, writeRandomGguf } from "../src/model/random-gguf.js";
import { type BenchResult, machine, median, rounded } from "./bench.js";
import { LlamaSpeed } from "./peers/llama-cpp/llama-cpp.js";
import { dropPageCache } from "./tasks/cgroup.js";

/** A program with the model loaded. */
interface Side {
  /** Tokens per second of the i-th test. */
  run(i: number): number | Promise<number>;
  /** What counts of them, by test. */
  rates: number[][];
}

/** Times that each test counts in a turn where turns are minutes apart: what the first run found in the page cache is not all that is measured. */
const runsApart = 3;

const numbers = (text: string): number[] => (text === "none" ? [] : text.split(",").map(Number));

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({
    args,
    options: {
      file: { type: "string" }, shape: { type: "string", default: "olmoe-1b-7b" }, type: { type: "string", default: "q4_k" }, layers: { type: "string" },
      prompt: { type: "string", default: "512" }, generate: { type: "string", default: "64" }, depth: { type: "string", default: "0" },
      rounds: { type: "string", default: "5" }, "no-peer": { type: "boolean", default: false },
    },
  });
  const about = machine(loadEngine());
  const folder = mkdtempSync(join(tmpdir(), "switchyard-speed-"));
  try {
    const file = values.file ?? join(folder, "model.gguf");
    if (values.file === undefined) {
      const { config } = readHfConfig(publishedConfig(values.shape as PublishedShape, values.layers === undefined ? undefined : Number(values.layers)), "bench");
      await writeRandomGguf(file, config, values.type.toUpperCase() as RandomType, 1);
    }
    const options = { prompts: numbers(values.prompt), generations: numbers(values.generate), depth: Number(values.depth) };
    const start = performance.now();
    using model = await Model.load(file);
    const loadSeconds = (performance.now() - start) / 1e3;
    using tests = new SpeedTests(model, options);
    const measured: Peaks[] = [];
    const takeTurns = async (sides: readonly Side[], rounds: number): Promise<void> => {
      for (let round = 0; round <= rounds; round++) {
        measured.push(...[measurePeaks(model) ?? []].flat());
        for (const i of tests.names.keys()) {
          for (const side of sides) {
            const rate = await side.run(i);
            if (round > 0) side.rates[i]?.push(rate); // the first fills caches
          }
        }
      }
    };
    const rounds = Number(values.rounds);
    const [ours, theirs] = [tests.names.map((): number[] => []), tests.names.map((): number[] => [])];
    const here: Side = { run: (i) => tests.run(i), rates: ours };
    let peerSeconds = 0;
    const withPeer = async (use: (there: Side) => Promise<void>): Promise<void> => {
      await using peer = await LlamaSpeed.load(file, model.engine.threads, options.depth + Math.max(...options.prompts, ...options.generations) + 64);
      peerSeconds = peer.loadSeconds;
      await use({ run: (i) => peer.run(tests.names[i] as string, options.depth), rates: theirs });
    };
    const alone = values["no-peer"];
    const apart = !alone && 2 * statSync(file).size > totalmem();
    if (alone) await takeTurns([here], rounds);
    else if (!apart) await withPeer((there) => takeTurns([here, there], rounds));
    else {
      for (let round = 0; round < rounds; round++) {
        // Else the file would be in memory in the pieces in which the other one last read it: small ones, which slow products down (docs/lab-notebook.md).
        dropPageCache();
        await takeTurns([here], runsApart);
        dropPageCache();
        await withPeer((there) => takeTurns([there], runsApart));
      }
    }
    const peaks = measured.length === 0 ? undefined : { bandwidth: median(measured.map((p) => p.bandwidth)), operations: median(measured.map((p) => p.operations)) };
    const rows = tests.names.map((test, i) => {
      const rates = ours[i] as number[];
      const [mine, other] = [median(rates), median(theirs[i] as number[])];
      const { bytesPerToken, percentOfPeak } = tests.describe(i, mine, peaks);
      return {
        test, "tokens/s": rounded(mine), range: `${rounded(Math.min(...rates))} to ${rounded(Math.max(...rates))}`,
        "llama.cpp": alone ? null : rounded(other), ratio: alone ? null : rounded(mine / other),
        "MB/token": bytesPerToken && rounded(bytesPerToken / 1e6), "% of reading or computing": percentOfPeak && rounded(percentOfPeak),
      };
    });
    const last = rows.at(-1) as (typeof rows)[0];
    return {
      name: `speed ${values.file ?? `${values.shape} ${values.type}`}${options.depth > 0 ? ` after ${options.depth} tokens` : ""}`,
      unit: `tokens/s of ${last.test}`, ours: last["tokens/s"], peer: last["llama.cpp"], ratio: last.ratio,
      peak: peaks === undefined ? null : rounded(peaks.bandwidth / 1e9), peakUnit: "GB/s read by all threads", machine: about, rows,
      note: `loaded in ${loadSeconds.toFixed(2)} s${alone ? "" : `, llama.cpp in ${peerSeconds.toFixed(2)} s`}; medians of ${rounds} rounds${apart ? ` of ${runsApart}, a process at a time` : ""}`,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
