/**
 * Does generation under a memory budget go as fast as the disk allows, and with the same bits?
 * npm run bench memory-budget -- FILE.gguf [--budgets 800,1500,2200] [--tokens 32] [--rounds 2] [--cgroup] [--json]
 *
 * Each budget, in megabytes, is a process of its own, and so is no budget: it loads the file, runs a prompt of 64 tokens and then others, as if it generated them
 * (arbitrary ones: a model of random weights left to itself repeats them, and so its experts), four by turns with the other processes, and reports the
 * logits as a hash, its peak resident memory (the kernel's VmHWM, mapped pages included) and what the cache counted. Reads are direct, past the
 * page cache, so that a file which is there is still read from the disk. Predicted: the time of the same tokens without a budget, all in
 * memory, and then that of the bytes that were not in the cache, at the rate at which the disk was read before and after. The best round of each budget counts.
 * With --cgroup (root only) each budget is the limit of a memory cgroup too, and llama.cpp is tried in one of the largest.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadEngine } from "../src/engine/load.js";
import { type BenchResult, machine, rounded } from "./bench.js";
import { LlamaSpeed } from "./peers/llama-cpp/llama-cpp.js";
import { dropPageCache, MemoryCgroup } from "./tasks/cgroup.js";
import type { Measured } from "./tasks/under-budget.js";

/** Tokens that a process runs before it is the next one's turn. */
const turn = 4;

export async function run(args: string[]): Promise<BenchResult> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { budgets: { type: "string", default: "800,1500,2200" }, tokens: { type: "string", default: "32" }, rounds: { type: "string", default: "2" }, cgroup: { type: "boolean", default: false } } });
  const [file] = positionals;
  if (file === undefined) throw new Error("memory-budget: name a .gguf file; switchyard make-model writes one of random weights");
  const tokens = Number(values.tokens);
  const budgets = values.budgets.split(",").map(Number);
  const rows: Record<string, string | number | null>[] = [];
  const ratios = new Map<number, number>();
  for (let round = 0; round < Number(values.rounds); round++) {
    const [whole, ...measured] = (await measure(file, [0, ...budgets], tokens, values.cgroup)) as [Measured, ...Limited[]];
    rows.push({ "MB allowed": null, "MB peak": whole.peak, "MB of cgroup": null, "in memory": null, "read ahead": null, foreseen: null, "MB read/token": null, "disk MB/s": null, "tokens/s": rounded(whole.tokensPerSecond), predicted: null, ratio: null, "same bits": null });
    for (const [i, m] of measured.entries()) {
      const budget = budgets[i] as number;
      const predicted = 1 / (1 / whole.tokensPerSecond + m.missedPerToken / m.readRate);
      const ratio = m.tokensPerSecond / predicted;
      ratios.set(budget, Math.max(ratio, ratios.get(budget) ?? 0));
      rows.push({
        "MB allowed": budget,
        "MB peak": m.peak,
        "MB of cgroup": m.charged,
        "in memory": rounded(m.hitRate),
        "read ahead": rounded(m.aheadRate),
        foreseen: m.foreseen === null ? null : rounded(m.foreseen),
        "MB read/token": rounded(m.bytesPerToken / 1e6),
        "disk MB/s": Math.round(m.readRate / 1e6),
        "tokens/s": rounded(m.tokensPerSecond),
        predicted: rounded(predicted),
        ratio: rounded(ratio),
        "same bits": m.hash === whole.hash ? "yes" : "NO",
      });
    }
  }
  const worst = Math.min(...ratios.values());
  const peer = values.cgroup ? ` ${await llamaWithin(file, Math.max(...budgets) * 1e6)}` : "";
  return { name: "memory-budget", unit: "tokens/s measured over predicted, the worst budget", ours: worst, peer: null, ratio: worst, peak: null, machine: machine(loadEngine()), rows, note: `MB are of 10^6 bytes. In memory: part of the uses of experts. Predicted: see the head of bench/memory-budget.ts.${peer}` };
}

/** `charged`: MB at most in its cgroup; null without. */
type Limited = Measured & { charged: number | null };

/** What processes of these budgets come to that take turns. */
async function measure(file: string, budgets: readonly number[], tokens: number, limit: boolean): Promise<Limited[]> {
  const script = fileURLToPath(new URL("tasks/under-budget.js", import.meta.url));
  const children = [];
  if (limit) dropPageCache();
  for (const budget of budgets) {
    const group = limit && budget > 0 ? new MemoryCgroup(budget * 1e6) : undefined;
    const command: [string, ...string[]] = [process.execPath, script, file, String(budget * 1e6), String(tokens)];
    const [program, ...args] = group?.wrap(command) ?? command;
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    const closed = once(child, "close");
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<string> => {
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`memory-budget: the process of ${budget} MB failed`);
      return value;
    };
    await next();
    children.push({ stdin: child.stdin, next, closed, group });
  }
  for (let left = tokens; left > 0; left -= turn) {
    for (const { stdin, next } of children) {
      stdin.write(`${Math.min(turn, left)}\n`);
      await next();
    }
  }
  const measured: Limited[] = [];
  for (const { stdin, next, closed, group } of children) {
    stdin.end();
    const result = JSON.parse(await next()) as Measured;
    await closed;
    measured.push({ ...result, charged: group === undefined ? null : Math.round(group.peak / 1e6) });
    group?.[Symbol.dispose]();
  }
  return measured;
}

/** What llama.cpp does with so many bytes. */
async function llamaWithin(file: string, bytes: number): Promise<string> {
  dropPageCache();
  using group = new MemoryCgroup(bytes);
  try {
    await using peer = await LlamaSpeed.load(file, 2, 1024, group);
    return `llama.cpp within ${bytes / 1e6} MB writes ${rounded(await peer.run("tg16", 0))} tokens/s.`;
  } catch (error) {
    return `Within ${bytes / 1e6} MB ${(error as Error).message}.`;
  }
}
