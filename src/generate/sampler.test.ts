import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Random } from "../tensor/random.js";
import { checkSampling, inFallingOrder, penalise, sample as sampleArray, type SamplingOptions } from "./sampler.js";

const sample = (logits: number[], options: SamplingOptions, random: Random) => sampleArray(Float64Array.from(logits), options, random);

const history = (prompt: number[], answer: number[]) => ({
  seen: new Set([...prompt, ...answer]),
  answered: new Map(answer.map((id) => [id, answer.filter((other) => other === id).length])),
});
/** How often each id is drawn of `n` draws. */
const frequencies = (logits: number[], options: SamplingOptions, n = 20_000) => {
  const random = new Random(7);
  const counts = logits.map(() => 0);
  for (let i = 0; i < n; i++) counts[sample(logits, options, random)]! += 1 / n;
  return counts;
};
const support = (logits: number[], options: SamplingOptions) => frequencies(logits, { temperature: 1, ...options }, 4000).flatMap((f, id) => (f > 0 ? [id] : []));
/** Logits of probabilities. */
const logs = (...p: number[]) => p.map(Math.log);
const anyLogits = fc.array(fc.integer({ min: -40, max: 40 }).map((n) => n / 8), { minLength: 1, maxLength: 60 });

describe("penalties", () => {
  it("are those of Hugging Face (repetition), OpenAI (presence, frequency) and a sum (bias)", () => {
    const logits = [2, -0.5, 1, 1, 0.5];
    const seen = history([0, 1], [2, 2, 3]);
    expect(penalise(logits, { repetitionPenalty: 2 }, seen)).toEqual(Float64Array.of(1, -1, 0.5, 0.5, 0.5));
    expect(penalise(logits, { presencePenalty: 0.25 }, seen)).toEqual(Float64Array.of(2, -0.5, 0.75, 0.75, 0.5));
    expect(penalise(logits, { frequencyPenalty: 0.25 }, seen)).toEqual(Float64Array.of(2, -0.5, 0.5, 0.75, 0.5));
    expect(penalise(logits, { logitBias: { 0: -Infinity, 4: 1.5 } }, seen)).toEqual(Float64Array.of(-Infinity, -0.5, 1, 1, 2));
    expect(penalise(logits, { repetitionPenalty: 2, presencePenalty: 0.5, frequencyPenalty: 1, logitBias: { 2: 3 } }, seen)).toEqual(Float64Array.of(1, -1, -0.5, -1, 0.5));
    expect(logits).toEqual([2, -0.5, 1, 1, 0.5]);
  });

  it("copy nothing unless asked for", () => {
    const logits = [1, 2];
    expect(penalise(logits, { temperature: 1, topK: 3 }, history([0], [1]))).toBe(logits);
  });
});

describe("sampling", () => {
  it("at temperature 0 takes the first of the likeliest", () => {
    fc.assert(fc.property(anyLogits, (logits) => void expect(sample(logits, { temperature: 0, topK: 5 }, new Random(1))).toBe(logits.indexOf(Math.max(...logits)))));
  });

  it.each<[string, SamplingOptions, number[]]>([
    ["nothing", {}, [0, 1, 2, 3]],
    ["top-k", { topK: 2 }, [1, 3]],
    ["top-k beyond the vocabulary", { topK: 9 }, [0, 1, 2, 3]],
    ["top-p just reached by two", { topP: 0.699 }, [1, 3]],
    ["top-p just missed by two", { topP: 0.701 }, [0, 1, 3]],
    ["top-p of what top-k left: 0.4 of 0.7 is enough", { topK: 2, topP: 0.57 }, [1]],
    ["top-p of what top-k left: 0.4 of 0.7 is too little", { topK: 2, topP: 0.58 }, [1, 3]],
    ["min-p: at least half of 0.4", { minP: 0.499 }, [0, 1, 3]],
    ["min-p: more than half of 0.4", { minP: 0.501 }, [1, 3]],
    ["min-p of flatter probabilities", { minP: 0.501, temperature: 2 }, [0, 1, 3]],
    ["min-p and top-p", { minP: 0.3, topP: 0.95 }, [0, 1, 3]],
    ["min-p of 1", { minP: 1 }, [1]],
  ])("leaves the right tokens with %s", (_, options, ids) => {
    expect(support(logs(0.2, 0.4, 0.1, 0.3), options)).toEqual(ids);
  });

  it("draws with the right probabilities", () => {
    const close = (given: number[], expected: number[]) => given.forEach((f, id) => expect(Math.abs(f - expected[id]!)).toBeLessThan(0.015));
    close(frequencies(logs(0.2, 0.4, 0.1, 0.3), { temperature: 1 }), [0.2, 0.4, 0.1, 0.3]);
    close(frequencies(logs(0.2, 0.4, 0.1, 0.3), { temperature: 0.5 }), [4 / 30, 16 / 30, 1 / 30, 9 / 30]);
    close(frequencies(logs(0.2, 0.4, 0.1, 0.3), { temperature: 1, topK: 3 }), [2 / 9, 4 / 9, 0, 3 / 9]);
    close(frequencies(logs(0.2, 0.4, 0.1, 0.3), { temperature: 1, topP: 0.6 }), [0, 4 / 7, 0, 3 / 7]);
  });

  it("gives these tokens for this seed", () => {
    const random = new Random(42);
    const logits = Array.from({ length: 1000 }, (_, i) => Math.sin(i * i));
    expect(Array.from({ length: 8 }, () => sample(logits, { temperature: 0.7, topK: 50, topP: 0.9, minP: 0.05 }, random))).toEqual([481, 259, 145, 286, 481, 939, 823, 144]);
  });

  it("stays within top-k whatever the logits, and depends on the seed alone", () => {
    fc.assert(
      fc.property(anyLogits, fc.integer({ min: 1, max: 8 }), fc.nat(), (logits, topK, seed) => {
        const id = sample(logits, { temperature: 1, topK }, new Random(seed));
        const order = logits.map((_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b);
        expect(order.slice(0, topK)).toContain(id);
        expect(sample(logits, { temperature: 1, topK }, new Random(seed))).toBe(id);
      }),
    );
  });

  it("never draws a forbidden token", () => {
    expect(support([1, -Infinity, 1], {})).toEqual([0, 2]);
    expect(support([1, -Infinity, -Infinity], { topK: 2 })).toEqual([0]);
  });

  it("keeps of equally likely tokens as many as reach top-p, the first ones", () => {
    expect(support([0, 0, 0, 0], { topP: 0.5 })).toEqual([0, 1]);
    expect(support([0, 0, 0, 0], { topP: 0.51 })).toEqual([0, 1, 2]);
  });

  it("draws none that is forbidden where rounding leaves a little over", () => {
    const largest = { float: () => 1 - 2 ** -53 } as Random;
    for (let n = 1; n < 200; n++) {
      const logits = Array.from({ length: n + 1 }, (_, i) => (i === n ? -Infinity : 3 * Math.sin(i * i + n)));
      expect(sample(logits, { temperature: 1 }, largest)).not.toBe(n);
    }
  });

  it("refuses logits that are no numbers, or none", () => {
    for (const logits of [[1, NaN], [NaN, 1], [-Infinity, -Infinity], [Infinity, 1]])
      expect(() => sample(logits, {}, new Random(1))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DIVERGED" }));
  });

  it("orders by falling logit, then by id", () => {
    fc.assert(fc.property(anyLogits, (logits) => void expect([...inFallingOrder(Float64Array.from(logits))]).toEqual(logits.map((_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b))));
  });

  it.each<[SamplingOptions, RegExp]>([
    [{ temperature: -1 }, /temperature/],
    [{ temperature: Infinity }, /temperature/],
    [{ topK: 0 }, /topK: expected an integer of at least 1, got 0$/],
    [{ topK: 1.5 }, /topK/],
    [{ topP: 0 }, /topP/],
    [{ topP: 1.1 }, /topP/],
    [{ minP: -0.1 }, /minP/],
    [{ minP: NaN }, /minP/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty/],
    [{ presencePenalty: NaN }, /presencePenalty/],
    [{ frequencyPenalty: Infinity }, /frequencyPenalty/],
    [{ logitBias: { 10: 1 } }, /0 to 9, got 10/],
    [{ logitBias: { "-1": 1 } }, /0 to 9, got -1/],
    [{ logitBias: { 1: NaN } }, /token 1/],
  ])("refuses %j", (options, message) => {
    expect(() => checkSampling(options, 10)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE", message: expect.stringMatching(message) }));
  });
});
