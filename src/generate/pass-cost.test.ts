import { describe, expect, it } from "vitest";
import { PassCost } from "./pass-cost.js";

/** After passes of 1 to 5 rows by turns, each of which takes `time(rows)` and gives two tokens. */
const measured = (time: (rows: number, pass: number) => number) => {
  const cost = new PassCost();
  for (let pass = 0; pass < 200; pass++) cost.record((pass % 5) + 1, time((pass % 5) + 1, pass), 2);
  return cost.leastLikely;
};

describe("what a guess costs", () => {
  it("is the time of its row, in tokens that come in that time", () => {
    expect(measured((rows) => 10 + 2 * rows)).toBeCloseTo((2 * 2) / 16, 1); // a row takes 2, a token 16 / 2
    expect(measured((rows) => 100 + 40 * rows)).toBeCloseTo((40 * 2) / 220, 1);
  });

  it("is next to nothing where rows cost nothing, and more than a certain guess brings where they cost a pass each", () => {
    expect(measured(() => 10)).toBeLessThan(0.1);
    expect(measured((rows) => 10 * rows)).toBeGreaterThan(0.6);
  });

  it("hardly depends on passes that something else interrupted", () => {
    const quiet = measured((rows) => 10 + 2 * rows);
    expect(measured((rows, pass) => (pass % 50 === 7 ? 5000 : 10 + 2 * rows))).toBeCloseTo(quiet, 1);
  });

  it("is assumed before anything was measured, and where all passes had the same size", () => {
    expect(new PassCost().leastLikely).toBe(1 / 8);
    const cost = new PassCost();
    for (let pass = 0; pass < 50; pass++) cost.record(1, 3, 1);
    expect(cost.leastLikely).toBeCloseTo(1 / 8, 10);
  });
});
