import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Io } from "../src/cli/io.js";
import { run } from "../src/cli/program.js";

const root = join(import.meta.dirname, "..");

/** A model that trains in a second, on the reference engine too. */
export const tiny = "--width 16 --layers 2 --heads 2 --context 16 --hidden 32 --experts 4 --top-k 2 --expert-hidden 16 --batch 2 --steps 20".split(" ");

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a command line in this process. */
export async function cli(args: readonly string[], options: { stdin?: string; env?: Io["env"]; columns?: number; memory?: number } = {}): Promise<Outcome> {
  const written = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof written) => ({ columns: options.columns, write: (text: string) => void (written[name] += text) });
  async function* stdin() {
    yield options.stdin ?? "";
  }
  const code = await run(args, { stdout: stream("stdout"), stderr: stream("stderr"), stdin: stdin(), env: options.env ?? {}, memory: options.memory ?? 2 ** 40, exitCode: 0 });
  return { code, ...written };
}

/** The one document on stdout; fails the test when the command did. */
export async function cliJson<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await cli([...args, "--json"]);
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** Compiles the command (unchecked: the type check is a test of its own) into a folder of its own and returns how to start it as a process: what a user runs. */
export function buildCli(): { main: string; env: NodeJS.ProcessEnv } {
  const folder = join(root, "build/test-cli");
  const addon = process.env["SWITCHYARD_ADDON"] ?? join(root, "build/switchyard.node");
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(root, "package.json"), join(folder, "package.json"));
  const args = [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.build.json"), "--outDir", join(folder, "dist"), "--noCheck"];
  const result = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  if (result.status !== 0) throw new Error(`tsc: ${result.stdout}${result.stderr}`);
  const engine = existsSync(addon) ? { SWITCHYARD_ADDON: addon } : { SWITCHYARD_ENGINE: "reference" };
  return { main: join(folder, "dist/cli/main.js"), env: { ...process.env, ...engine } };
}
