/**
 * npm run bench                   lists the questions
 * npm run bench NAME [-- --json]  answers one
 * npm run bench NAME -- --help    says how it is measured, and its flags
 */
import { readdirSync, readFileSync } from "node:fs";
import type { BenchResult } from "./bench.js";

const folder = new URL(".", import.meta.url);
const notQuestions = ["main.js", "bench.js"];
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".js") && !notQuestions.includes(file))
  .map((file) => file.slice(0, -3));

const [question, ...rest] = process.argv.slice(2);
const json = rest.includes("--json");
const isHelp = (arg: string) => arg === "--help" || arg === "-h";
if (question === undefined || !names.includes(question)) {
  console.error(`usage: npm run bench NAME -- [--json] [--help]\nNAME is one of: ${names.join(", ")}`);
  process.exit(question === undefined || isHelp(question) ? 0 : 2);
}
if (rest.some(isHelp)) {
  console.log(about(question));
  process.exit(0);
}

const { run } = (await import(new URL(`${question}.js`, folder).href)) as { run: (args: string[]) => Promise<BenchResult> };
const result = await run(rest.filter((arg) => arg !== "--json")).catch((error: NodeJS.ErrnoException) => {
  if (error.code?.startsWith("ERR_PARSE_ARGS") !== true) throw error;
  console.error(`${error.message}\n\n${about(question)}`);
  process.exit(2);
});
if (json) console.log(JSON.stringify(result));
else print(result);

/** The comment that a question's file begins with. */
function about(name: string): string {
  const [comment = ""] = /^\/\*\*[^]*?(?=\n \*\/)/.exec(readFileSync(new URL(`../../../bench/${name}.ts`, folder), "utf8")) ?? [];
  return comment.split("\n").slice(1).map((line) => line.slice(3)).join("\n");
}

function print({ name, unit, ours, peer, ratio, peak, peakUnit, machine, rows, note }: BenchResult): void {
  const { cpu, cores, memoryGiB, isa, threads, node, load, commit } = machine;
  console.log(`${name}  (${cpu}, ${cores} cores, ${memoryGiB} GiB, ${isa}, ${threads} threads, node ${node}, load ${load}, commit ${commit})\n`);
  console.table(rows);
  const number = (x: number | null) => (x === null ? "-" : x.toPrecision(4));
  console.log(`ours ${number(ours)} ${unit}, peer ${number(peer)}, ratio ${number(ratio)}, peak ${number(peak)} ${peakUnit ?? unit}`);
  if (note !== undefined) console.log(note);
}
