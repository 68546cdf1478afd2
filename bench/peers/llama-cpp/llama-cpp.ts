/** llama.cpp as the package node-llama-cpp has it, installed on demand outside this one. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { MemoryCgroup } from "../../tasks/cgroup.js";

const sources = fileURLToPath(new URL("../../../../../bench/peers/llama-cpp/", import.meta.url)); // of build/bench/bench/peers/llama-cpp

/** A folder with node-llama-cpp: $SWITCHYARD_LLAMA_CPP, or one that is set up in ~/.cache/switchyard on first use. Throws when that fails. */
function llamaCpp(): string {
  const home = process.env["SWITCHYARD_LLAMA_CPP"] ?? join(homedir(), ".cache", "switchyard", "llama-cpp");
  mkdirSync(home, { recursive: true });
  if (!existsSync(join(home, "node_modules", "node-llama-cpp"))) {
    console.error(`bench: installing node-llama-cpp into ${home}`);
    copyFileSync(join(sources, "package.json"), join(home, "package.json"));
    execFileSync("npm", ["install", "--no-audit", "--no-fund"], { cwd: home, stdio: ["ignore", "ignore", "inherit"] });
  }
  for (const script of ["greedy.mjs", "speed.mjs"]) copyFileSync(join(sources, script), join(home, script));
  return home;
}

/** By file, the `count` most likely tokens after each prompt. Throws what llama.cpp says against a file. */
export function llamaGreedy(files: readonly string[], prompts: readonly (readonly number[])[], count: number): number[][][] {
  const { stdout, stderr } = spawnSync(process.execPath, [join(llamaCpp(), "greedy.mjs"), ...files], { input: JSON.stringify({ prompts, count }), encoding: "utf8" });
  const lines = stdout.split("\n").filter((text) => text.startsWith('{"ids"'));
  if (lines.length === files.length) return lines.map((line) => (JSON.parse(line) as { ids: number[][] }).ids);
  throw new Error(stderr.split("\n").find((text) => /error|assert/i.test(text))?.replace(/^.*?(error loading model: |GGML_ASSERT)/, "$1") ?? "it ended without an answer");
}

/** llama.cpp with a model loaded, in a process of its own that sleeps between tests. */
export class LlamaSpeed {
  private constructor(
    private readonly process: ChildProcess,
    private readonly answers: AsyncIterator<string>,
    readonly loadSeconds: number,
  ) {}

  /** Throws what it says against the file, or the signal that ended it. */
  static async load(file: string, threads: number, context: number, within?: MemoryCgroup): Promise<LlamaSpeed> {
    const command: [string, ...string[]] = [process.execPath, join(llamaCpp(), "speed.mjs"), file, String(threads), String(context)];
    const [program, ...args] = within?.wrap(command) ?? command;
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    const closed = once(child, "close");
    let errors = "";
    child.stderr.on("data", (text: Buffer) => (errors = (errors + text.toString()).slice(-2000)));
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const { value, done } = await answers.next();
    if (done === true) {
      const [, signal] = (await closed) as [number | null, string | null];
      throw new Error(`llama.cpp does not load ${file}: ${signal ?? errors}`);
    }
    return new LlamaSpeed(child, answers, (JSON.parse(value) as { loadSeconds: number }).loadSeconds);
  }

  /** Tokens per second of a test named as llama-bench names it, after `depth` tokens. */
  async run(name: string, depth: number): Promise<number> {
    this.process.stdin?.write(`${JSON.stringify({ test: name.slice(0, 2), n: Number(name.slice(2)), depth })}\n`);
    const { value, done } = await this.answers.next();
    if (done === true) throw new Error(`llama.cpp ended in ${name}`);
    return (JSON.parse(value) as { tokensPerSecond: number }).tokensPerSecond;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.process, "close");
    this.process.kill();
    await closed;
  }
}
