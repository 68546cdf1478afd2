import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { cli, cliJson } from "../../test/cli.js";
import { describeNative } from "../../test/engines.js";
import { type Budgets, readTrace } from "../inspect/budgets.js";
import { hitRate, type Replacement } from "../inspect/replacement.js";
import { modelConfig } from "../model/presets.js";
import { writeRandomGguf } from "../model/random-gguf.js";
import { halfLife } from "../model/residency/expert-cache.js";
import { Random } from "../tensor/random.js";
import { parseBytes } from "./flags.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-memory-"));
const model = join(root, "model.gguf");
const trace = join(root, "trace.jsonl");
const [layers, experts, active] = [2, 8, 2];
const config = modelConfig({ vocab: 300, width: 256, layers, heads: 4, context: 64, moe: { router: "mixtral", experts, active, hidden: 256 } });
beforeAll(() => writeRandomGguf(model, config, "Q4_0", 1));
afterAll(() => rmSync(root, { recursive: true }));
const generate = ["generate", model, "Hello there", "--max-tokens", "8", "--temperature", "0"];

describeNative("--memory", () => {
  it("writes the same text, and says what the budget came to", async () => {
    const whole = await cliJson<{ ids: number[] }>(...generate, "--routing-out", trace);
    expect(await cliJson(...generate, "--memory", "2GiB")).toMatchObject({ ids: whole.ids, residency: { memory: 2 ** 31, slots: layers * experts, experts: layers * experts } });
    expect((await cli([...generate, "--memory", "2GiB"])).stderr).toMatch(/16 of 16 experts fit in memory, \d+% of uses found theirs there, .* read per token/);
  });

  it("is named where the weights are larger than what the process may take", async () => {
    expect((await cli(generate, { memory: 2 ** 20 })).stderr).toMatch(/model\.gguf: 2.1 MiB of weights, and this process may take 1\.0 MiB; --memory 0MiB keeps/);
    for (const options of [{ memory: 2 ** 30 }, {}]) expect((await cli(generate, options)).stderr).not.toContain("--memory");
    expect((await cli([...generate, "--memory", "2GiB"], { memory: 2 ** 20 })).stderr).not.toContain("this process may take");
  });

  it("names the smallest budget that works, and refuses what is no size", async () => {
    expect(await cli([...generate, "--memory", "1MB"])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/memory: expected at least \d+ MiB: .* for the dense part, .* for the 8 experts of one layer/) });
    expect(await cli([...generate, "--memory", "lots"])).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("6GiB") });
  });

  it("bench adds what the cache did to each test; with all experts there, none is foreseen", async () => {
    const { results, residency } = await cliJson<{ results: object[]; residency: object }>("bench", model, "-p", "none", "-n", "2", "-r", "1", "--memory", "2GiB");
    expect(results).toEqual([expect.objectContaining({ test: "tg2", cache: { hitRate: expect.any(Number), aheadRate: expect.any(Number), foreseen: null, bytesPerToken: expect.any(Number) } })]);
    expect(residency).toMatchObject({ slots: 16, experts: 16, readRate: expect.any(Number) });
  });

  it("inspect --budgets tells what each size would give, from a trace if there is one", async () => {
    const uniform = await cliJson<Budgets>("inspect", model, "--budgets");
    expect(uniform.budgets.map((budget) => [budget.slots, budget.hitRate])).toEqual([[8, 0.5], [12, 0.75], [16, 1]]);
    expect((await cli([...generate, "--memory", String(uniform.budgets[0]!.memory)])).code).toBe(0);
    const bytes = 3 * 256 * (256 / 32) * 18; // gate, up and down in Q4_0
    expect(uniform.budgets.map(({ bytesPerToken }) => bytesPerToken)).toEqual([0.5, 0.25, 0].map((part) => part * layers * active * bytes));
    expect(uniform.budgets[2]!.tokensPerSecond).toBeGreaterThan(uniform.budgets[0]!.tokensPerSecond);
    // With all experts there a token takes what it reads of memory: what bench says, but for keys and values of two layers and one token in f16.
    const { results: [test] } = await cliJson<{ results: { bytesPerToken: number }[] }>("bench", model, "-p", "none", "-n", "2", "-r", "1");
    expect(uniform.memoryRate / uniform.budgets[2]!.tokensPerSecond).toBeCloseTo(test!.bytesPerToken - 2 * 2 * 256 * 2, 3);
    const traced = await cliJson<Budgets>("inspect", model, "--budgets", "--trace", trace);
    expect(traced.budgets[0]!.hitRate).not.toBe(0.5);
    // Some experts are used more often than others, so that the cache's policy is better than others are.
    const random = new Random(1);
    const pair = () => [random.below(2), 2 + random.below(6)];
    const other = join(root, "skewed.jsonl");
    writeFileSync(other, Array.from({ length: 100 }, () => JSON.stringify({ layers: [0, 1].map((layer) => ({ layer, experts: pair() })) })).join("\n"));
    const skewed = await cliJson<Budgets>("inspect", model, "--budgets", "--trace", other);
    const rates = (policy: Replacement) => [8, 12].map((slots) => hitRate(readTrace(other, config), slots, policy, layers)).concat(1);
    expect(skewed.budgets.map((budget) => budget.hitRate)).toEqual(rates({ halfLife }));
    expect(rates({ halfLife })).not.toEqual(rates("least recent"));
    writeFileSync(join(root, "other.jsonl"), readFileSync(trace, "utf8").replace('"layer":1', '"layer":7'));
    expect(await cli(["inspect", model, "--budgets", "--trace", join(root, "other.jsonl")])).toMatchObject({ code: 1, stderr: expect.stringContaining("line 1: expected the experts of this model's 2 sparse layers") });
    expect(await cli(["inspect", model, "--trace", trace])).toMatchObject({ code: 2, stderr: expect.stringContaining("--budgets") });
  });
});

it.each([["6GiB", 6 * 2 ** 30], ["6G", 6 * 2 ** 30], ["2200MB", 2.2e9], ["1.5 kib", 1536], ["100", 100], ["100B", 100]])("%s is %i bytes", (text, bytes) => expect(parseBytes(text)).toBe(bytes));

it.each(["", "-1", "6XB", "GiB", "1e9", "6 Gi B"])("'%s' is no size", (text) => expect(() => parseBytes(text)).toThrow("Expected a size"));
