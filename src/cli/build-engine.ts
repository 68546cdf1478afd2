import { Command } from "commander";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { loadEngine } from "../engine/load.js";
import { check, SwitchyardError } from "../errors.js";
import { formatDuration } from "../train/log/format.js";
import { describeCommand } from "./flags.js";
import { type Io, printJson } from "./io.js";
import { packageRoot } from "./version.js";

export function buildEngineCommand(io: Io): Command {
  return describeCommand(new Command("build-engine"), "Compiles the native engine on this machine. Needs make and a C++ compiler (g++ or clang++), and one to three minutes.", [
    "switchyard build-engine",
    "CXX=clang++ switchyard build-engine # with a compiler of your choice",
  ]).action((flags: { json?: boolean }) => {
    const built = build(io);
    if (flags.json === true) printJson(io, built);
    else io.stdout.write(`Built ${built.path} in ${formatDuration(built.seconds)} with ${built.compiler}: kernels ${built.isa}.\n`);
  });
}

function build(io: Io) {
  const platform = `${process.platform}-${process.arch}`;
  check(platform === "linux-x64", "ERR_SWITCHYARD_UNSUPPORTED", () => `build-engine: the native engine is for linux-x64, this is ${platform}; the reference engine works here, slowly`);
  const compiler = io.env["CXX"] ?? ["g++", "clang++"].find(exists);
  const install = "install it (Debian, Ubuntu: apt-get install make g++; Fedora: dnf install make gcc-c++) and try again";
  check(exists("make"), "ERR_SWITCHYARD_ENGINE", () => `build-engine: make is missing; ${install}`);
  check(compiler !== undefined && exists(compiler), "ERR_SWITCHYARD_ENGINE", () => `build-engine: ${compiler ?? "a C++ compiler"} is missing; ${install}`);
  check(existsSync(join(packageRoot, "Makefile")), "ERR_SWITCHYARD_ENGINE", () => `build-engine: ${packageRoot} has no Makefile; install the package anew`);
  const headers = join(dirname(createRequire(import.meta.url).resolve("node-api-headers/package.json")), "include");
  io.stderr.write(`Compiling the native engine with ${compiler}, one to three minutes ...\n`);
  const started = performance.now();
  const args = ["-s", `-j${availableParallelism()}`, "native", `CXX=${compiler}`, `NODE_API_HEADERS=${headers}`];
  const result = spawnSync("make", args, { cwd: packageRoot, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 2 ** 26 });
  if (result.status !== 0) {
    io.stderr.write(result.stdout + result.stderr);
    throw new SwitchyardError("ERR_SWITCHYARD_ENGINE", `build-engine: make failed in ${packageRoot} (see above); the reference engine still works, slowly`, { cause: result.error });
  }
  const engine = loadEngine({ engine: "native" });
  return { path: engine.source, compiler, isa: engine.isa, seconds: (performance.now() - started) / 1e3 };
}

const exists = (command: string): boolean => spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
