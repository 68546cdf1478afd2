import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, cliJson } from "../../test/cli.js";
import { Model } from "../generate/model.js";
import { modelConfig } from "../model/presets.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-bench-"));
const model = join(folder, "model");
beforeAll(async () => {
  using made = Model.create({ config: modelConfig({ size: "xs", vocab: 300, context: 24, width: 16, layers: 2 }), seed: 1 });
  await made.save(model);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Bench {
  parameters: { total: number; active: number };
  results: { test: string; tokensPerSecond: number; slowest: number; fastest: number; repetitions: number; bytesPerToken: number | null; percentOfPeak: number | null }[];
  machine: { threads: number; isa: string; engine: string; peakOperations: number | null };
}

describe("bench", () => {
  it("measures prompts and generation, named as llama-bench names them", async () => {
    const { results, machine, parameters } = await cliJson<Bench>("bench", model, "--prompt", "7,16", "--generate", "3", "--repetitions", "2", "--depth", "5");
    expect(results.map(({ test }) => test)).toEqual(["pp7", "pp16", "tg3"]);
    const [prompt, , generation] = results as [Bench["results"][0], unknown, Bench["results"][0]];
    expect(prompt.bytesPerToken).toBeNull();
    // All weights in f32 but for the embeddings' 300 rows, of which one; keys and values of two layers, after 5 and 1.5 tokens.
    expect(generation.bytesPerToken).toBe(4 * (parameters.active - 299 * 16) + 2 * 2 * 16 * 4 * 6.5);
    // Of a prompt's token two operations for each weight of a matrix that it uses: not for embeddings and head, nor for five norms.
    if (machine.peakOperations !== null) expect((prompt.percentOfPeak! * machine.peakOperations) / (100 * prompt.tokensPerSecond)).toBeCloseTo(2 * (parameters.active - 2 * 300 * 16 - 5 * 16), 3);
    for (const { tokensPerSecond, slowest, fastest, repetitions, percentOfPeak } of results) {
      expect(percentOfPeak === null).toBe(machine.engine === "reference");
      expect(slowest).toBeGreaterThan(0);
      expect(tokensPerSecond).toBeGreaterThanOrEqual(slowest);
      expect(tokensPerSecond).toBeLessThanOrEqual(fastest);
      expect(repetitions).toBe(2);
    }
    expect(machine.threads).toBeGreaterThanOrEqual(1);
    expect(parameters.active).toBeLessThan(parameters.total);
  });

  it("of a model with a short context, what fits in place of the usual lengths", async () => {
    const { results } = await cliJson<Bench>("bench", model, "--depth", "20", "-r", "1");
    expect(results.map(({ test }) => test)).toEqual(["pp4", "tg4"]);
  });

  it("keeps keys and values as f16 where told to", async () => {
    const bytes = async (kv: string) => (await cliJson<Bench>("bench", model, "-p", "none", "-n", "2", "-r", "1", "--kv", kv)).results[0]?.bytesPerToken as number;
    expect((await bytes("f32")) - (await bytes("f16"))).toBe(2 * 2 * 16 * 2);
  });

  it("prints a table for people", async () => {
    const { code, stdout } = await cli(["bench", model, "-p", "none", "-n", "2", "-r", "1"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/tg2\s+[\d.]+/);
    expect(stdout).not.toContain("pp");
  });

  it.each<[string, string[], RegExp]>([
    ["more tokens than the context", ["-p", "25"], /pp25 after 0 tokens: expected 1 to 24 tokens/],
    ["a depth beyond the context", ["-d", "24"], /--depth: expected less than the model's context of 24, got 24/],
    ["a list that is none", ["-p", "many"], /Expected numbers of tokens/],
    ["no repetitions", ["-r", "0"], /--repetitions: expected an integer of at least 1, got 0/],
    ["an unknown type of keys", ["--kv", "f8"], /kv: expected "f32" or "f16", got "f8"/],
    ["nothing to do", ["-p", "none", "-n", "none"], /nothing to measure/],
  ])("refuses %s", async (_, args, message) => {
    expect(await cli(["bench", model, ...args])).toMatchObject({ code: 2, stderr: expect.stringMatching(message) });
  });
});
