import { expect, it } from "vitest";
import { describeRouter } from "./describe.js";
import { routerConfig } from "./presets.js";

it.each([
  ["mixtral", "top-k, 2 of 8 experts by softmax scores; weights: the scores of the chosen, divided by their sum"],
  ["olmoe", "top-k, 2 of 8 experts by softmax scores; weights: the scores of the chosen"],
  [
    "deepseek-v3",
    "top-k, 2 of 8 experts by sigmoid scores plus a bias for the choice only, of the best 4 of 8 groups by the sum of their best two; weights: the scores of the chosen, divided by their sum, times 2.5",
  ],
  ["switch", "top-k, 2 of 8 experts by softmax scores; weights: the scores of the chosen; each expert takes at most 2 (in training 1.25) times its fair share of the tokens, the rest is dropped by position"],
  ["shazeer", "noisy-top-k, 2 of 8 experts by softmax scores; weights: softmax of the chosen logits"],
  ["expert-choice", "expert-choice, each of 8 experts takes its best tokens, 2 a token on average, by softmax scores; weights: the scores of the chosen"],
] as const)("%s in words", (preset, words) => {
  expect(describeRouter(routerConfig(preset), { experts: 8, active: 2 })).toBe(words);
});

it("raw logits, a bias of the projection, hashing, every expert", () => {
  const words = (overrides: Parameters<typeof routerConfig>[1]) => describeRouter(routerConfig("olmoe", overrides), { experts: 8, active: 2 });
  expect(words({ score: "logits", weight: "softmax", bias: true })).toBe("top-k, 2 of 8 experts by logits with a bias; weights: softmax of the chosen logits");
  expect(words({ bias: true })).toMatch(/by softmax of logits with a bias;/);
  expect(words({ selection: "hash" })).toMatch(/^hash of the token id, 2 of 8 experts; weights/);
  expect(words({ selection: "dense", normalize: { eps: 0, p: 2 } })).toBe("dense, all 8 experts; weights: the scores of the chosen, divided by their 2-norm");
});
