import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cli, cliJson } from "../../test/cli.js";
import { readModelGguf } from "../model/gguf-file.js";
import { ggufTokenizer } from "../tokenizer/gguf.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-make-model-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("make-model", () => {
  it("writes the published shape in the type, with a vocabulary of bytes", async () => {
    const out = join(folder, "a.gguf");
    const result = await cliJson("make-model", "olmoe-1b-7b", "--type", "q4_k", "--layers", "1", "--out", out);
    // 1 layer: 64 experts of 3 x 2048 x 1024, attention of 4 x 2048^2, router, norms; embedding and head of 50,304 x 2048.
    const parameters = 64 * 3 * 2048 * 1024 + 4 * 2048 ** 2 + 64 * 2048 + 4 * 2048 + 2 * 50_304 * 2048 + 2048;
    expect(result).toMatchObject({ shape: "olmoe-1b-7b", modelType: "olmoe", type: "q4_k", parameters, bytes: statSync(out).size });
    const { config, gguf } = readModelGguf(out);
    expect(config).toMatchObject({ layers: 1, width: 2048, heads: 16, qkNorm: "row", moe: { experts: 64, active: 8, hidden: 1024 } });
    expect(new Set([...gguf.tensors].map(([name, { type }]) => `${/norm|gate_inp/.test(name) ? "exact" : "matrix"} ${type}`))).toEqual(new Set(["exact F32", "matrix Q4_K"]));
    // Beside quantised weights keys and values are f16.
    const { memory } = await cliJson<{ memory: { cachePerToken: number } }>("inspect", out);
    expect(memory.cachePerToken).toBe(2 * 2048 * 2);
    const tokenizer = ggufTokenizer(gguf.metadata);
    expect(tokenizer?.vocabSize).toBe(50_304);
    expect(tokenizer?.decode(tokenizer.encode("caf\u00e9 7"))).toBe("caf\u00e9 7");
  });

  it.each<[string, string[], RegExp]>([
    ["an unknown shape", ["gpt-5", "--out", "x.gguf"], /Allowed choices are olmoe-1b-7b, qwen3-30b-a3b, mixtral-8x7b/],
    ["an unknown type", ["olmoe-1b-7b", "--out", "x.gguf", "--type", "q9"], /Allowed choices are f32/],
    ["no file", ["olmoe-1b-7b"], /required option '--out <file>'/],
    ["a folder", ["olmoe-1b-7b", "--out", "x"], /--out: expected the name of a .gguf file, got x/],
    ["no layers", ["olmoe-1b-7b", "--out", "x.gguf", "--layers", "0"], /--layers: expected an integer of at least 1, got 0/],
    ["a seed below 0", ["olmoe-1b-7b", "--out", "x.gguf", "--seed", "-1"], /seed: expected an integer from 0/],
  ])("refuses %s", async (_, args, message) => {
    expect(await cli(["make-model", ...args])).toMatchObject({ code: 2, stderr: expect.stringMatching(message) });
  });

  it("refuses a file that exists", async () => {
    expect(await cli(["make-model", "olmoe-1b-7b", "--out", folder])).toMatchObject({ code: 2 });
    expect(await cli(["make-model", "olmoe-1b-7b", "--out", join(folder, "a.gguf")])).toMatchObject({ code: 2, stderr: expect.stringMatching(/a\.gguf exists/) });
  });
});
