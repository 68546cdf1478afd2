// Brings a clone to the point where it runs: packages, native engine, compiled TypeScript. Does only what is
// missing or out of date, and says nothing when nothing is. Uses Node's own modules alone, so that it works
// before `npm ci`. With --quiet only warnings and failures are printed; with --typescript the native engine is left
// out, as it is from the package (`npm pack`), which `switchyard build-engine` compiles where it is installed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const quiet = process.argv.includes("--quiet");
const noCompiler = "native engine: not built, because %s is missing. The reference engine (plain TypeScript, slower) will be used, "
  + "and the demo runs at a smaller size.\n  For full speed install make and g++ (Debian, Ubuntu: apt-get install make g++) and run this again.";

function fail(message) {
  process.stderr.write(`setup: ${message}\n`);
  process.exit(1);
}

/** Milliseconds since 1970 of the last change to `path` or, for a folder, to anything in it; 0 when it does not exist. */
function changed(path) {
  if (!existsSync(path)) return 0;
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(path).reduce((newest, name) => Math.max(newest, changed(join(path, name))), stat.mtimeMs);
}

/** Runs a command in the root; its output is shown only when it fails. */
function run(what, command, args, remedy) {
  const started = performance.now();
  if (!quiet) process.stdout.write(`setup: ${what} ...`);
  const result = spawnSync(command, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 64 << 20 });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (!quiet) process.stdout.write(result.status === 0 ? ` ${seconds} s\n` : "\n");
  if (result.status !== 0) fail(`${what} failed after ${seconds} s\n${result.error ?? result.stdout + result.stderr}\n${remedy}`);
}

const has = (command) => spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) fail(`Node >= 20.19 is needed, this is ${process.version}. Get one from https://nodejs.org`);
}

function installPackages() {
  if (changed(join(root, "node_modules/.package-lock.json")) >= statSync(join(root, "package-lock.json")).mtimeMs) return;
  run("installing packages (npm ci)", "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], "Check that the npm registry can be reached (npm ping), then run this again.");
}

function buildNative() {
  const compiler = process.env.CXX || ["g++", "clang++"].find(has);
  if (!has("make") || compiler === undefined) {
    process.stderr.write(`setup: ${noCompiler.replace("%s", has("make") ? "a C++ compiler" : "make")}\n`);
    return;
  }
  const args = ["-s", `-j${availableParallelism()}`, "native", `CXX=${compiler}`];
  if (spawnSync("make", ["-q", ...args], { cwd: root, stdio: "ignore" }).status === 0) return;
  run(`building the native engine (make native, ${compiler})`, "make", args, "Run `make native` to see it alone; `make clean` first if the tree was moved from another machine.");
}

/** Compiles src/ into dist/. The stamp is written after a success only, so a failed build is tried again, and bears the time of the start. */
function buildTypeScript() {
  const stamp = join(root, "build/typescript.stamp");
  const sources = ["src", "tsconfig.json", "tsconfig.build.json", "package-lock.json"].map((name) => changed(join(root, name)));
  if (existsSync(join(root, "dist")) && changed(stamp) > Math.max(...sources)) return;
  const started = new Date();
  rmSync(join(root, "dist"), { recursive: true, force: true });
  run("compiling TypeScript (tsc)", process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], "Correct the errors above; `npx tsc --noEmit` shows them again.");
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, "");
  utimesSync(stamp, started, started);
}

checkNode();
installPackages();
if (!process.argv.includes("--typescript")) buildNative();
buildTypeScript();
