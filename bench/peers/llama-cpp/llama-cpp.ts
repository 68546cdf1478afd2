/** llama.cpp as the package node-llama-cpp has it, installed on demand outside this one. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

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
  copyFileSync(join(sources, "greedy.mjs"), join(home, "greedy.mjs"));
  return home;
}

/** The `count` most likely tokens after a prompt, or what llama.cpp says against the file. */
export function llamaGreedy(file: string, prompt: readonly number[], count: number): { ids: number[] } | { error: string } {
  const { stdout, stderr } = spawnSync(process.execPath, [join(llamaCpp(), "greedy.mjs"), file], { input: JSON.stringify({ prompt, count }), encoding: "utf8" });
  const line = stdout.split("\n").find((text) => text.startsWith('{"ids"'));
  if (line !== undefined) return JSON.parse(line) as { ids: number[] };
  return { error: stderr.split("\n").find((text) => /error|assert/i.test(text))?.replace(/^.*?(error loading model: |GGML_ASSERT)/, "$1") ?? "it ended without an answer" };
}
