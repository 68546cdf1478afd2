import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { refusal, withWrongValues } from "../../test/malformed.js";
import type { JsonObject } from "../formats/json.js";
import { readConfigFile, resolveRun, type RunInput } from "./settings.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-settings-"));
afterAll(() => rmSync(root, { recursive: true }));
const path = join(root, "train.yaml");

const settings: JsonObject = {
  data: ["a.txt"], out: "run", tokenizer: "bpe", vocab: 512, size: "xs", context: 64, width: 64, layers: 2, heads: 4, kvHeads: 2, hidden: 128, tiedEmbeddings: true,
  moe: {
    experts: 8, active: 2, hidden: 32, shared: 1, sharedCombine: "add", zLoss: 0, layers: { firstDense: 1 }, balance: { method: "switch", coefficient: 0.01 },
    router: { selection: "top-k", score: "softmax", weight: "score", normalize: { eps: 0, p: 1 }, scale: 1, bias: false, selectionBias: false, jitter: 0, capacity: { train: 1, eval: 1, drop: "position" } },
  },
  steps: 10, batch: 2, seed: 1,
};
const read = (text: string | Buffer): string | undefined => {
  writeFileSync(path, text);
  return refusal(() => readConfigFile(path), ["ERR_SWITCHYARD_USAGE"])?.replace(path, "train.yaml");
};

describe("a YAML file of settings", () => {
  it("is not read to its end if it has none", () => expect(refusal(() => readConfigFile("/dev/zero"), ["ERR_SWITCHYARD_USAGE"])).toContain("something that is not a file"));

  it("a value of another kind in any field is named", () => {
    expect(read(JSON.stringify(settings))).toBeUndefined();
    // What numbers of a router mean is checked where it is made.
    const wrong = withWrongValues(settings).filter(({ path: field, value }) => value !== -1.5 || !/^moe\.(router|balance)\./.test(field));
    expect(wrong.length).toBeGreaterThan(100);
    for (const { path: field, value, json } of wrong) {
      if (!(field === "data" && value === "x") && !(field === "moe.balance" || field === "moe.router" || field === "moe.layers")) expect(read(JSON.stringify(json)), `${field}: ${JSON.stringify(value)}`).toContain(`train.yaml: ${field}`);
    }
  });

  it.each<[string, string | Buffer]>([
    ["a key twice", "steps: 1\nsteps: 2\n"],
    ["an unknown key", "stepz: 1\n"],
    ["a list", "- 1\n"],
    ["a text", "hello\n"],
    ["an open quote", 'out: "a\n'],
    ["an open bracket", "data: [a\n"],
    ["a tab as indentation", "moe:\n\texperts: 4\n"],
    ["wrong indentation", "moe:\n    experts: 4\n  active: 2\n"],
    ["two documents", "steps: 1\n---\nsteps: 2\n"],
    ["an anchor that is not there", "out: *nowhere\n"],
    ["a value that holds itself", "moe: &a\n  experts: *a\n"],
    ["doubled aliases", `a: &a [x, x]\n${[..."bcdefghijk"].map((c, i) => `${c}: &${c} [*${"abcdefghij"[i]}, *${"abcdefghij"[i]}]`).join("\n")}\n`],
    ["deep brackets", `data: ${"[".repeat(20_000)}`],
    ["deep mappings", `moe: ${"{a: ".repeat(10_000)}`],
    ["not a number", "steps: .nan\n"],
    ["an infinity", "steps: .inf\n"],
    ["a huge number", `steps: ${"9".repeat(400)}\n`],
    ["deep lists", `data: ${"- ".repeat(30_000)}x`],
    ["a prototype", "__proto__: {steps: 1}\n"],
    ["a prototype inside", "moe: {__proto__: {experts: 1}}\n"],
    ["a binary value", "out: !!binary YQ==\n"],
    ["bytes that are no text", Buffer.from([0xff, 0xfe, 0x00])],
    ["a megabyte", `data: [${"x,".repeat(500_000)}]\n`],
    ["a long key", `${"k".repeat(100_000)}: 1\n`],
    ["a long value of another kind", `steps: ${"k".repeat(100_000)}\n`],
  ])("refuses %s, again and again", (_, text) => {
    for (let n = 0; n < 3; n++) expect(read(text)).toMatch(/^train\.yaml: /);
  });

  it.each<[string | Buffer, RegExp]>([
    ["moe: true\n", /moe: expected a mapping \(experts, .*, layers\) or false, got true$/],
    ["steps: 1.5\n", /steps: expected an integer of at least 1, got 1\.5$/],
    ["steps: .nan\n", /steps: expected an integer of at least 1, got NaN$/],
    ["steps: '5'\n", /steps: expected an integer of at least 1, got "5"$/],
    ["seed: 1e16\n", /seed: expected an integer of at least 0 and at most 9007199254740991, got 10000000000000000$/],
    ["dropout: 1\n", /dropout: expected a number of at least 0 and below 1, got 1$/],
    ["learningRate: 0\n", /learningRate: expected a number above 0, got 0$/],
    ["size: huge\n", /size: expected xs, s or m, got "huge"$/],
    ["tiedEmbeddings: 1\n", /tiedEmbeddings: expected true or false, got 1$/],
    ["data: []\n", /data: expected a text or a list of at least one text, got \[\]$/],
    ["data: [1]\n", /data\.0: expected a text, got 1$/],
    ["moe: { layers: { firstDense: -1 } }\n", /moe\.layers\.firstDense: expected an integer of at least 0, got -1$/],
    ["moe: { balance: some }\n", /moe\.balance: expected none, .* loss-free or a mapping \(method, coefficient, rate, update\), got "some"$/],
    ["moe: { router: { capacity: { train: 1 } } }\n", /moe\.router\.capacity\.eval: expected a number, got nothing$/],
    ["hello\n", /^train\.yaml: expected YAML with the options of train, as in "steps: 500", got "hello"$/],
    [Buffer.from([0x1f, 0x8b, 0, 7]), /^train\.yaml: expected YAML with the options of train, as in "steps: 500", got bytes that are no text$/],
  ])("says what was expected and given: %j", (text, message) => expect(read(text)).toMatch(message));

  it.each([["switch", "rate", 0.001], ["none", "update", "sign"], ["loss-free", "coefficient", 0.01]])("of balance %s refuses %s, which does nothing", (method, key, value) => {
    const resolve = () => resolveRun({ data: "a", out: "b", moe: { balance: { method, [key]: value } } } as RunInput, {});
    expect(refusal(resolve, ["ERR_SWITCHYARD_USAGE"])).toContain(`moe.balance.${key} does nothing for balance "${method}"; choose `);
  });
});
