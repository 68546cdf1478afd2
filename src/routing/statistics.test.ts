import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../tensor/random.js";
import { coefficientOfVariation, deadExperts, entropy, loadStatistics, maxViolation, maxViolationFloor, overLayers, tokenEntropy, topKMargin } from "./statistics.js";

describe("loadStatistics", () => {
  test("of a balanced layer", () => {
    expect(loadStatistics({ load: Int32Array.of(8, 8, 8, 8), tokens: 16, dropped: 0, fullyDropped: 0 })).toEqual({
      load: [0.25, 0.25, 0.25, 0.25],
      maxvio: 0,
      maxvio_floor: Math.sqrt((2 * Math.log(4) * 4) / 32),
      cv: 0,
      load_entropy: 1,
      dead: 0,
      dropped: 0,
      fully_dropped: 0,
    });
  });

  test("of a collapsed layer: MaxVio E - 1, entropy 0, E - 1 dead experts, CV sqrt(E - 1)", () => {
    const s = loadStatistics({ load: [0, 100, 0, 0], tokens: 100, dropped: 60, fullyDropped: 50 });
    expect(s).toMatchObject({ load: [0, 1, 0, 0], maxvio: 3, load_entropy: 0, dead: 3, dropped: 0.6, fully_dropped: 0.5 });
    expect(s.cv).toBeCloseTo(Math.sqrt(3), 14);
  });

  test("by hand: counts 6, 2, 4, 0", () => {
    const s = loadStatistics({ load: [6, 2, 4, 0], tokens: 6, dropped: 3, fullyDropped: 1 });
    expect(s.maxvio).toBeCloseTo(1, 14);
    expect(s.cv).toBeCloseTo(Math.sqrt(5) / 3, 14);
    expect(s.load_entropy).toBeCloseTo((0.5 * Math.log(2) + Math.log(6) / 6 + Math.log(3) / 3) / Math.log(4), 14);
    expect(s).toMatchObject({ dead: 1, dropped: 0.25 });
    expect(s.fully_dropped).toBeCloseTo(1 / 6, 14);
  });

  test("does not depend on scale or order, and stays within its bounds", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 2, maxLength: 64 }).filter((load) => load.some((n) => n > 0)), (load) => {
        const of = (counts: number[]) => loadStatistics({ load: counts, tokens: 1, dropped: 0, fullyDropped: 0 });
        const s = of(load);
        const other = of(load.toReversed().map((n) => 7 * n));
        for (const key of ["maxvio", "cv", "load_entropy", "dead"] as const) expect(other[key]).toBeCloseTo(s[key], 9);
        expect(s.maxvio).toBeGreaterThanOrEqual(-1e-12);
        expect(s.maxvio).toBeLessThanOrEqual(load.length - 1 + 1e-9);
        expect(s.load_entropy).toBeGreaterThanOrEqual(-1e-12);
        expect(s.load_entropy).toBeLessThanOrEqual(1 + 1e-12);
        expect(s.load.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
      }),
    );
  });

  test("one expert is balanced; no tokens is not a number", () => {
    expect(loadStatistics({ load: [5], tokens: 5, dropped: 0, fullyDropped: 0 })).toMatchObject({ maxvio: 0, load_entropy: 1, dead: 0 });
    expect(loadStatistics({ load: [0, 0], tokens: 0, dropped: 0, fullyDropped: 0 })).toMatchObject({ maxvio: Number.NaN, dead: 2, dropped: Number.NaN });
  });
});

describe("the sampling floor of MaxVio", () => {
  test("is 0.13 for 4,096 tokens, 8 of 64 experts", () => {
    expect(maxViolationFloor(64, 4096 * 8)).toBeCloseTo(0.127458, 6);
  });

  test("is what uniform random choices give, within a third", () => {
    const random = new Random(1);
    let sum = 0;
    for (let batch = 0; batch < 20; batch++) {
      const load = new Array<number>(64).fill(0);
      for (let i = 0; i < 32768; i++) load[random.below(64)]! += 1;
      sum += maxViolation(load);
    }
    const ratio = sum / 20 / maxViolationFloor(64, 32768);
    expect(ratio).toBeGreaterThan(0.67);
    expect(ratio).toBeLessThan(1.1);
  });
});

test("an expert is dead below 1 % of the mean", () => {
  expect(deadExperts([1000, 1000, 990, 10])).toEqual([]); // mean 750, limit 7.5
  expect(deadExperts([1000, 1000, 993, 7, 0])).toEqual([4]); // mean 600, limit 6
  expect(deadExperts([400, 3, 4, 0, 1593])).toEqual([1, 3]); // mean 400, limit 4
});

test("entropy and coefficient of variation", () => {
  expect(entropy([0.5, 0.5, 0])).toBeCloseTo(Math.LN2, 15);
  expect(coefficientOfVariation([1, 3])).toBe(0.5);
});

test("tokenEntropy averages over tokens, and normalises each row", () => {
  expect(tokenEntropy([0.5, 0.5, 0, 0, 1, 0, 0, 0], 4)).toBeCloseTo(Math.LN2 / 2, 15);
  expect(tokenEntropy(Float32Array.of(3, 1), 2)).toBeCloseTo(entropy([0.75, 0.25]), 12);
});

test("topKMargin is the mean gap between the k-th and the next score", () => {
  const scores = [0.1, 0.6, 0.25, 0.05, -3, 9, 8.5, -1];
  expect(topKMargin(scores, 4, 1)).toBeCloseTo((0.35 + 0.5) / 2, 14);
  expect(topKMargin(scores, 4, 2)).toBeCloseTo((0.15 + 9.5) / 2, 14);
  expect(topKMargin(scores, 4, 4)).toBeNaN();
});

test("overLayers does not pool: opposite collapses stay visible", () => {
  const layers = [[10, 0], [0, 10], [5, 5]].map((load) => loadStatistics({ load, tokens: 10, dropped: 0, fullyDropped: 0 }));
  const maxvio = overLayers(layers, (layer) => layer.maxvio)!;
  expect(maxvio.mean).toBeCloseTo(2 / 3, 14);
  expect(maxvio).toMatchObject({ worst: 1, worstIndex: 0 });
  expect(overLayers([], () => 1)).toBeUndefined();
});
