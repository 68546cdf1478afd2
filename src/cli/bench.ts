import { Command, InvalidArgumentError } from "commander";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { check } from "../errors.js";
import { kvType } from "../generate/generate.js";
import { measureReadRate } from "../inspect/residency.js";
import { measureSpeed, type SpeedTest } from "../inspect/speed.js";
import { measurePeaks } from "../inspect/work.js";
import type { KvType } from "../model/cache.js";
import { formatBytes, formatPercent } from "../train/log/format.js";
import { describeCommand, memoryOption, modelArgument, parseNumber, threadsOption } from "./flags.js";
import { counted, grouped, type Io, printJson } from "./io.js";
import { loadModel } from "./load-model.js";
import { table, terminal } from "./terminal.js";

interface BenchFlags {
  json?: boolean;
  prompt?: number[];
  generate?: number[];
  repetitions: number;
  depth: number;
  kv?: KvType;
  memory?: number;
}

export function benchCommand(io: Io): Command {
  return describeCommand(new Command("bench"), "How many tokens per second a model reads (pp) and writes (tg) on this machine, under llama-bench's names.", [
    "switchyard bench olmoe-q4_k.gguf",
    "switchyard bench runs/first --prompt 64 --generate 64 --repetitions 9 --json",
    "switchyard bench olmoe-q4_k.gguf --prompt none --generate 32 --depth 4096 # after a long prompt",
    "switchyard bench olmoe-q4_k.gguf --memory 2200MB # with experts read from the file when they are needed",
  ])
    .argument(...modelArgument)
    .option("-p, --prompt <list>", 'lengths of prompts, or "none" (default: 64,512, as far as the context goes)', parseList)
    .option("-n, --generate <list>", 'numbers of tokens to generate, or "none" (default: 64,128, as far as the context goes)', parseList)
    .option("-r, --repetitions <n>", "times that each test runs; the median counts", parseNumber, 5)
    .option("-d, --depth <n>", "tokens before each test", parseNumber, 0)
    .option("--kv <type>", "keep keys and values as f32 or f16 (default: f16 for quantised models)")
    .option(...threadsOption)
    .option(...memoryOption)
    .action((path: string, flags: BenchFlags) => benchAction(io, path, flags));
}

async function benchAction(io: Io, path: string, { prompt, generate, repetitions, depth, kv: wanted, memory, json }: BenchFlags): Promise<void> {
  for (const [flag, n, least] of [["--repetitions", repetitions, 1], ["--depth", depth, 0]] as const) {
    check(Number.isInteger(n) && n >= least, "ERR_SWITCHYARD_USAGE", () => `bench: ${flag}: expected an integer of at least ${least}, got ${n}`);
  }
  check(prompt?.length !== 0 || generate?.length !== 0, "ERR_SWITCHYARD_USAGE", () => "bench: nothing to measure: give --prompt or --generate a number");
  const start = performance.now();
  using model = await loadModel(io, path, { memory, json });
  const { engine, parameterCount, config } = model;
  const room = config.context - depth;
  check(room >= 1, "ERR_SWITCHYARD_USAGE", () => `bench: --depth: expected less than the model's context of ${config.context}, got ${depth}`);
  const fitting = (lengths: readonly number[]) => [...new Set(lengths.map((n) => Math.min(n, room)))];
  const kv = kvType(model, wanted);
  const loadSeconds = (performance.now() - start) / 1000;
  const { name, isa } = engine;
  const peaks = measurePeaks(model);
  const machine = {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memory: totalmem(),
    load: loadavg()[0],
    engine: name,
    isa,
    threads: engine.threads,
    node: process.version,
    readBandwidth: peaks?.bandwidth ?? null,
    peakOperations: peaks?.operations ?? null,
  };
  const results = measureSpeed(model, { prompts: prompt ?? fitting([64, 512]), generations: generate ?? fitting([64, 128]), repetitions, depth, kv }, peaks);
  const { cache } = model.parameters;
  const residency = cache && { memory, ...cache.size, readRate: measureReadRate(engine, cache.layers) };
  if (json === true) printJson(io, { model: path, parameters: parameterCount, loadSeconds, depth, kv, results, residency, machine });
  else {
    const measured = peaks === undefined ? "" : `; reads ${(peaks.bandwidth / 1e9).toFixed(1)} GB/s, computes ${(peaks.operations / 1e9).toFixed(0)} GOP/s`;
    const head = `${grouped(parameterCount.active)} of ${grouped(parameterCount.total)} parameters per token; ${machine.cpu}, ${isa}, ${counted(machine.threads, "thread")}${measured}`;
    io.stdout.write(describe(io, head, results));
    if (residency !== undefined) io.stdout.write(`\n${residency.slots} of ${residency.experts} experts fit in memory; the file was read at ${formatBytes(residency.readRate)}/s\n`);
  }
}

function describe(io: Io, head: string, results: readonly SpeedTest[]): string {
  const { paint } = terminal(io.stdout, io.env);
  const rate = (n: number) => n.toFixed(n < 100 ? 1 : 0);
  const rows = results.map(({ test, tokensPerSecond, slowest, fastest, bytesPerToken, percentOfPeak, cache }) => {
    const bytes = bytesPerToken === null ? "" : `${(bytesPerToken / 1e6).toFixed(bytesPerToken < 1e8 ? 1 : 0)} MB`;
    const share = percentOfPeak === null ? "" : `${percentOfPeak.toFixed(0)} % of ${bytesPerToken === null ? "arithmetic" : "reading"}`;
    const experts = cache && [formatPercent(cache.hitRate), formatPercent(cache.aheadRate), cache.foreseen === null ? "-" : formatPercent(cache.foreseen), formatBytes(cache.bytesPerToken)];
    return [test, rate(tokensPerSecond), `${rate(slowest)} to ${rate(fastest)}`, bytes, share, ...(experts ?? [])];
  });
  const more = results.some(({ cache }) => cache !== undefined) ? ["in memory", "read ahead", "foreseen", "read per token"] : [];
  return `${paint(head, "dim")}\n\n${table(["test", "tokens/s", "range", "per token", "of the peak", ...more], rows, paint)}\n`;
}

/** "64,512" -> [64, 512]; "none" -> []. */
function parseList(text: string): number[] {
  const list = text === "none" ? [] : text.split(",").map(Number);
  if (!list.every((n) => Number.isInteger(n) && n >= 1)) throw new InvalidArgumentError('Expected numbers of tokens as in "64,512", or "none".');
  return list;
}
