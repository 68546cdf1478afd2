import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { byteTokenizer } from "../../tokenizer/bytes.js";
import { loadEngine } from "../../engine/load.js";
import { LanguageModel } from "../../model/language-model.js";
import { declarationCorpus } from "./corpus.js";
import { expertUse, type LayerUse, revealed, shares, strongest } from "./specialisation.js";
import { classifyBytes, kinds } from "./token-kinds.js";

test("every byte of TypeScript has a kind, characters of several bytes included", () => {
  const text = 'export class Box { // \u00e9\n  n = 42; s = "a\\"b" }';
  const named = Array.from(classifyBytes(text), (kind) => kinds[kind]);
  expect(named).toHaveLength(Buffer.byteLength(text));
  const of = (part: string) => new Set(named.slice(Buffer.byteLength(text.slice(0, text.indexOf(part))), Buffer.byteLength(text.slice(0, text.indexOf(part) + part.length))));
  const expected = { export: "keyword", class: "keyword", Box: "Type", "{": "bracket", "// \u00e9": "comment", "\n  ": "space", n: "name", "=": "other", "42": "number", '"a\\"b"': "string" };
  for (const [part, kind] of Object.entries(expected)) expect([part, ...of(part === "n" ? "n =" : part)][1], part).toBe(kind);
});

test("the corpus is real text, the same each time", () => {
  const corpus = declarationCorpus(200_000);
  expect(corpus.bytes).toBeGreaterThanOrEqual(200_000);
  expect(corpus.packages.length).toBeGreaterThan(1);
  expect(new Set(corpus.files.map((file) => readFileSync(file, "utf8"))).size).toBe(corpus.files.length);
  expect(declarationCorpus(200_000).files).toEqual(corpus.files);
});

test("use of experts: every token counts k times in each layer, in the row of its kind", () => {
  using model = LanguageModel.create({ vocab: 256, width: 16, layers: 2, heads: 2, context: 8, moe: { experts: 4, active: 2, hidden: 8 }, engine: loadEngine({ engine: "reference" }), seed: 1 });
  const tokens = Int32Array.from(byteTokenizer().encode("interface A { b: number; c: string }"));
  const uses = expertUse(model, tokens, classifyBytes("interface A { b: number; c: string }"), kinds.length);
  expect(uses.map(({ layer }) => layer)).toEqual([0, 1]);
  for (const { choices } of uses) {
    expect(choices[kinds.indexOf("keyword")]?.reduce((a, b) => a + b)).toBe(2 * ("interface".length + "number".length + "string".length));
    expect(choices.flat().reduce((a, b) => a + b)).toBe(2 * (tokens.length - 1)); // the last token is a target only
  }
});

test("specialisation: none, complete, and the strongest named first", () => {
  const even: LayerUse = { layer: 0, choices: [[5, 5], [5, 5]] };
  const split: LayerUse = { layer: 1, choices: [[10, 0], [0, 10]] };
  const leaning: LayerUse = { layer: 2, choices: [[8, 2], [5, 5]] };
  expect(revealed(even)).toBeCloseTo(0);
  expect(revealed(split)).toBeCloseTo(1);
  expect(revealed(leaning)).toBeGreaterThan(0);
  expect(shares(leaning)[0]).toEqual([0.8, 0.2]);
  const [first, second] = strongest([even, leaning, split], 5);
  expect(first).toEqual({ layer: 1, expert: 0, kind: 0, ofKind: 1, ofAll: 0.5 });
  expect(second).toMatchObject({ layer: 1, expert: 1, kind: 1 });
});
