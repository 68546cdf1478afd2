import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** A module of `src`, as a program for `runProgram` imports it. */
export const sourceUrl = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);

/** Runs a module's code in a process of its own. Returns what it wrote to stderr; throws that where it fails. */
export function runProgram(code: string): string {
  const { stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8", cwd: fileURLToPath(new URL(".", import.meta.url)) });
  if (status !== 0) throw new Error(`a child process failed: ${stderr}`);
  return stderr;
}
