import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "switchyard-examples-"));
const text = join(folder, "text.txt");
beforeAll(() => writeFileSync(text, readFileSync(join(import.meta.dirname, "../LICENSE"), "utf8").slice(0, 3000)));
afterAll(() => rmSync(folder, { recursive: true }));

/** What a program prints when it is run for two steps. */
async function run(name: string, ...args: string[]): Promise<string> {
  const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
  const table = vi.spyOn(console, "table").mockImplementation(() => undefined);
  const { argv } = process;
  process.argv = ["node", name, text, "2", ...args];
  try {
    await import(`../examples/${name}.ts`);
    return [...log.mock.calls, ...table.mock.calls].flat().map((part) => (typeof part === "string" ? part : JSON.stringify(part))).join("\n");
  } finally {
    process.argv = argv;
    log.mockRestore();
    table.mockRestore();
  }
}

// The reference engine takes seconds for a step.
const minutes = 3 * 60_000;

test("train-tiny trains, saves, loads and writes", async () => {
  const out = join(folder, "tiny");
  const printed = await run("train-tiny", out);
  expect(printed).toMatch(/step 2: validation loss \d\.\d+/);
  expect(printed).toMatch(/^The /m);
  expect(JSON.parse(readFileSync(join(out, "config.json"), "utf8"))).toMatchObject({ model_type: "mixtral" });
}, minutes);

test("own-router trains with both routers", async () => {
  const printed = await run("own-router");
  const losses = [...printed.matchAll(/loss (\d\.\d+)/g)].map((match) => Number(match[1]));
  expect(losses).toHaveLength(2);
  expect(losses[0]).not.toBe(losses[1]);
}, minutes);

test("routing-report counts every choice of every layer", async () => {
  const printed = await run("routing-report");
  expect(printed.match(/layer \d: % of a kind's choices per expert/g)).toHaveLength(4);
  const rows = [...printed.matchAll(/"(?:space|vowel|consonant|digit|other)":\[([\d,]+)\]/g)].map((match) => (match[1] as string).split(",").map(Number));
  expect(rows.length).toBeGreaterThanOrEqual(3 * 4);
  for (const shares of rows) expect(Math.abs(shares.reduce((a, b) => a + b) - 100)).toBeLessThanOrEqual(4); // each is rounded
}, minutes);

test("balance compares three methods", async () => {
  const printed = await run("balance");
  expect(printed.match(/validation loss \d\.\d+, MaxVio \d+\.\d+ in the worst layer, \d+ dead experts/g)).toHaveLength(3);
}, minutes);
