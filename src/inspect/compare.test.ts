import { describe, expect, it } from "vitest";
import { compareRouting, relativeError } from "./compare.js";

describe("relative error", () => {
  it.each<[string, number[], number[], number]>([
    ["is the largest difference over the largest value", [1, -3.5, 2], [1, -4, 2.25], 0.5 / 4],
    ["is 0 between equals, zeros too", [0, 0], [0, 0], 0],
    ["is infinite against zeros", [0, 1], [0, 0], Infinity],
    ["stays NaN, wherever it stands", [NaN, 5, 1], [1, 2, 3], NaN],
    ["stays NaN in what is wanted", [1, 5, 1], [1, NaN, 3], NaN],
  ])("%s", (_, got, want, error) => expect(relativeError(got, want)).toBe(error));
});

describe("routing", () => {
  const want = { experts: [3, 1, 0, 2], weights: [0.75, 0.25, 0.5, 0.5], k: 2 };

  it("does not depend on the order of a token's experts", () => {
    expect(compareRouting({ experts: [1, 3, 2, 0], weights: [0.25, 0.75, 0.5, 0.5], k: 2 }, want, 2)).toEqual({ agreement: 1, weightError: 0 });
  });

  it("matches weights by expert", () => {
    expect(compareRouting({ experts: [1, 3, 2, 0], weights: [0.75, 0.25, 0.5, 0.5], k: 2 }, want, 2)).toEqual({ agreement: 1, weightError: 0.5 / 0.75 });
  });

  it("an expert that only one of them chose counts with its whole weight", () => {
    expect(compareRouting({ experts: [3, 1, 0, 1], weights: [0.75, 0.25, 0.5, 0.5], k: 2 }, want, 2)).toEqual({ agreement: 0.5, weightError: 0.5 / 0.75 });
  });

  it("leaves out what was dropped, by -1 or by a mask", () => {
    const got = { experts: [3, 1, -1, -1], weights: [0.75, 0.25, 0, 0], k: 2 };
    expect(compareRouting(got, want, 2).agreement).toBe(0.5);
    expect(compareRouting(got, { ...want, dropped: [0, 1] }, 2)).toEqual({ agreement: 1, weightError: 0 });
    expect(compareRouting(got, { experts: [1, 3, -1, -1, -1, 0], k: 3 }, 2)).toEqual({ agreement: 0.5, weightError: null });
  });
});
