/**
 * npm run bench                 lists the questions
 * npm run bench NAME [-- --json]  answers one
 */
import { readdirSync } from "node:fs";
import type { BenchResult } from "./bench.js";

const folder = new URL(".", import.meta.url);
const notQuestions = ["main.js", "bench.js"];
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".js") && !notQuestions.includes(file))
  .map((file) => file.slice(0, -3));

const [question, ...rest] = process.argv.slice(2);
const json = rest.includes("--json");
if (question === undefined || !names.includes(question)) {
  console.error(`usage: npm run bench NAME -- [--json]\nNAME is one of: ${names.join(", ")}`);
  process.exit(question === undefined ? 0 : 2);
}

const { run } = (await import(new URL(`${question}.js`, folder).href)) as { run: (args: string[]) => Promise<BenchResult> };
const result = await run(rest.filter((arg) => arg !== "--json")).catch((error: NodeJS.ErrnoException) => {
  if (error.code?.startsWith("ERR_PARSE_ARGS") !== true) throw error;
  console.error(`${error.message}\nFlags of ${question}: see the head of bench/${question}.ts`);
  process.exit(2);
});
if (json) console.log(JSON.stringify(result));
else print(result);

function print({ name, unit, ours, peer, ratio, peak, peakUnit, machine, rows, note }: BenchResult): void {
  const { cpu, cores, memoryGiB, isa, threads, node, load, commit } = machine;
  console.log(`${name}  (${cpu}, ${cores} cores, ${memoryGiB} GiB, ${isa}, ${threads} threads, node ${node}, load ${load}, commit ${commit})\n`);
  console.table(rows);
  const number = (x: number | null) => (x === null ? "-" : x.toPrecision(4));
  console.log(`ours ${number(ours)} ${unit}, peer ${number(peer)}, ratio ${number(ratio)}, peak ${number(peak)} ${peakUnit ?? unit}`);
  if (note !== undefined) console.log(note);
}
