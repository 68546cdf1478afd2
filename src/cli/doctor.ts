import { Command } from "commander";
import { createRequire } from "node:module";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import type { Engine } from "../engine/engine.js";
import { loadEngine } from "../engine/load.js";
import type { NativeAddon } from "../engine/native-addon.js";
import { SwitchyardError } from "../errors.js";
import { formatBytes } from "../train/log/format.js";
import { describeCommand } from "./flags.js";
import { counted, type Io, printJson } from "./io.js";
import { terminal } from "./terminal.js";
import { packageVersion } from "./version.js";

export function doctorCommand(io: Io): Command {
  return describeCommand(new Command("doctor"), "What Switchyard computes with on this machine, and why.", ["switchyard doctor", "SWITCHYARD_ISA=avx2 switchyard doctor --json"]).action((flags: { json?: boolean }) => {
    const report = examine(io);
    if (flags.json === true) printJson(io, report);
    else io.stdout.write(describe(io, report));
  });
}

type Report = ReturnType<typeof examine>;

function examine(io: Io) {
  const engine = loadEngine();
  return {
    version: packageVersion,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memory: { total: totalmem(), limit: io.memory, free: freemem(), resident: process.memoryUsage.rss() },
    engine: { name: engine.name, isa: engine.isa, isas: variants(engine), threads: engine.threads, float: engine.float, source: engine.source, why: engine.name === "native" ? null : whyNotNative() },
  };
}

/** Kernel variants that this CPU can run, the best last. */
function variants(engine: Engine): string[] {
  if (engine.name !== "native") return [engine.isa];
  return (createRequire(import.meta.url)(engine.source) as NativeAddon).isas().filter((isa) => isa !== null);
}

function whyNotNative(): string {
  if (process.env["SWITCHYARD_ENGINE"] === "reference") return "SWITCHYARD_ENGINE=reference asks for it";
  try {
    loadEngine({ engine: "native" });
    return "the native engine can be loaded now";
  } catch (error) {
    if (error instanceof SwitchyardError) return error.message;
    throw error;
  }
}

function describe(io: Io, { version, node, platform, cpu, cores, memory, engine }: Report): string {
  const { paint } = terminal(io.stdout, io.env);
  const isas = engine.isas.length > 1 ? ` (of ${engine.isas.join(", ")})` : "";
  const rows = [
    ["switchyard", version],
    ["node", `${node}, ${platform}`],
    ["cpu", `${cpu}, ${counted(cores, "core")} for this process`],
    ["memory", `${formatBytes(memory.total)}, ${formatBytes(memory.free)} free${memory.limit < memory.total ? `, at most ${formatBytes(memory.limit)} for this process` : ""}`],
    ["engine", `${paint(engine.name, engine.name === "native" ? "green" : "yellow")}, kernels ${engine.isa}${isas}, ${counted(engine.threads, "thread")}, ${engine.float}`],
    ["from", engine.source],
    ...(engine.why === null ? [] : [["why", engine.why]]),
  ];
  return `${rows.map(([name = "", value]) => `${paint(name.padEnd(10), "dim")}  ${value}`).join("\n")}\n`;
}
