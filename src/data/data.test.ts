import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { BatchSampler, evaluationWindows, loadTokens, readTexts, splitTokens } from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-data-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, content: string | Uint8Array) => {
  const path = join(folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, content);
  return path;
};
const bytes = { vocabSize: 257, eosId: 256, encode: (text: string) => [...Buffer.from(text)] } as unknown as Tokenizer;

describe("text files", () => {
  it("reads folders in the order of names, passing over binary, hidden and linked files", () => {
    file("corpus/b.txt", "second");
    file("corpus/a/deep.txt", "first");
    file("corpus/c.bin", new Uint8Array([1, 0, 2]));
    file("corpus/.hidden", "no");
    symlinkSync(join(folder, "corpus"), join(folder, "corpus", "loop"));
    expect(readTexts([join(folder, "corpus")]).map(({ text }) => text)).toEqual(["first", "second"]);
  });

  it.each<[string, () => string, RegExp]>([
    ["missing", () => join(folder, "nowhere"), /does not exist/],
    ["empty", () => file("empty.txt", ""), /no text in/],
    ["binary", () => file("x.bin", new Uint8Array([0x7f, 0, 1])), /x\.bin is not text/],
    ["endless", () => "/dev/zero", /neither a file nor a folder/],
    ["another encoding", () => file("latin.txt", new Uint8Array([0x61, 0xe9, 0x62])), /latin\.txt is not valid UTF-8/],
  ])("refuses a %s file", (_, path, message) => {
    const given = path();
    expect(() => readTexts([given])).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA", message: expect.stringMatching(message) }));
  });

  it.each<[string[], string]>([[[], "data: no paths; name text files or folders"], [["a.txt", ""], "data: an empty path; name text files or folders"]])("refuses %j as paths", (paths, message) => {
    expect(() => readTexts(paths)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE", message }));
  });

  it("refuses an empty file among others", () => {
    expect(() => readTexts([file("full.txt", "text"), file("none.txt", "")])).toThrow(/no text in .*none\.txt; the file is empty/);
  });

  it("passes over no text of a folder because it is too large, but data that is not text", () => {
    file("large/a.txt", "small");
    for (const [name, begin] of [["b.bin", "\0"], ["c.txt", "large"]] as const) truncateSync(file(`large/${name}`, begin + "x".repeat(8192)), 2 ** 28 + 1);
    expect(() => readTexts([join(folder, "large")])).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DATA", message: expect.stringMatching(/large\/c\.txt has 268435457 bytes; split it/) }));
    rmSync(join(folder, "large/c.txt"));
    expect(readTexts([join(folder, "large")]).map(({ text }) => text)).toEqual(["small"]);
  });

  it("separates documents by the end-of-text token, and a single one not at all", () => {
    const [a, b] = [file("a.txt", "ab"), file("b.txt", "c")];
    expect([...loadTokens([a, b], bytes)]).toEqual([97, 98, 256, 99, 256]);
    expect([...loadTokens([a], bytes)]).toEqual([97, 98]);
  });

  it("splits off the last part", () => {
    const { training, validation } = splitTokens(Uint16Array.from({ length: 25 }, (_, i) => i), 0.1);
    expect([training.length, validation.length, validation[0]]).toEqual([22, 3, 22]);
  });
});

describe("batches", () => {
  const tokens = Uint16Array.from({ length: 101 }, (_, i) => i);
  const options = { context: 10, batch: 3, seed: 5, order: "shuffled" as const };

  it("targets are the following tokens", () => {
    const { inputs, targets } = new BatchSampler(tokens, options).next();
    expect([...targets]).toEqual([...inputs].map((t) => t + 1));
  });

  it("a shuffled epoch visits every window once, and the next one in another order", () => {
    const sampler = new BatchSampler(tokens, { ...options, batch: 10 });
    const starts = () => [...sampler.next().inputs].filter((_, i) => i % 10 === 0);
    const [first, second] = [starts(), starts()];
    expect(first.toSorted((a, b) => a - b)).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    expect(second.toSorted((a, b) => a - b)).toEqual(first.toSorted((a, b) => a - b));
    expect(second).not.toEqual(first);
  });

  it.each(["shuffled", "random"] as const)("%s: goes on from its state as if never stopped, and depends on the seed", (order) => {
    const draw = (sampler: BatchSampler, n: number) => Array.from({ length: n }, () => [...sampler.next().inputs]);
    const whole = draw(new BatchSampler(tokens, { ...options, order }), 9);
    const first = new BatchSampler(tokens, { ...options, order });
    const begin = draw(first, 4);
    const second = new BatchSampler(tokens, { ...options, order });
    second.restore(first.state());
    expect([...begin, ...draw(second, 5)]).toEqual(whole);
    expect(draw(new BatchSampler(tokens, { ...options, order, seed: 6 }), 9)).not.toEqual(whole);
  });

  it("of a whole number of windows the last has no token after it to be predicted, and is left out", () => {
    const { inputs, targets } = new BatchSampler(tokens.subarray(0, 30), { ...options, batch: 6 }).next();
    expect([...targets]).toEqual([...inputs].map((t) => t + 1));
    expect(Math.max(...inputs)).toBe(19);
  });

  it("random offsets cover the whole stream, the last window included", () => {
    const sampler = new BatchSampler(tokens, { ...options, batch: 2000, order: "random" });
    const starts = new Set([...sampler.next().inputs].filter((_, i) => i % 10 === 0));
    expect([Math.min(...starts), Math.max(...starts), starts.size]).toEqual([0, 90, 91]);
  });

  it("evaluation visits every window once, in order", () => {
    const batches = [...evaluationWindows(tokens, { context: 10, batch: 4 })];
    expect(batches.map(({ batch }) => batch)).toEqual([4, 4, 2]);
    expect(batches.flatMap(({ inputs }) => [...inputs])).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it("evaluation visits what is left after the last whole window too", () => {
    const batches = [...evaluationWindows(tokens.subarray(0, 28), { context: 10, batch: 4 })];
    expect(batches.map(({ inputs, batch }) => [inputs.length, batch])).toEqual([[20, 2], [7, 1]]);
    expect(batches.flatMap(({ targets }) => [...targets])).toEqual(Array.from({ length: 27 }, (_, i) => i + 1));
  });

  it("names both lengths when the data is too short", () => {
    expect(() => new BatchSampler(tokens.subarray(0, 10), options)).toThrow(/10 tokens for training are fewer than .* context \+ 1 = 11/);
  });
});
