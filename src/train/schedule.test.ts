import { describe, expect, test } from "vitest";
import { checkSchedule, type Schedule, scheduleFactor } from "./schedule.js";

const charModel: Schedule = { kind: "cosine", warmup: 100, steps: 2000, floor: 0.1 };
const wsd: Schedule = { kind: "wsd", warmup: 10, steps: 100, decay: 20, floor: 0 };

describe("cosine", () => {
  test("equals nanoGPT's character setting (1e-3 to 1e-4, 100 of 2,000 steps of warm-up) at every step", () => {
    for (let it = 0; it < 2000; it++) {
      const expected = it < 100 ? (1e-3 * (it + 1)) / 100 : 1e-4 + 0.5 * 9e-4 * (1 + Math.cos((Math.PI * (it - 100)) / 1900));
      expect(Math.abs(1e-3 * scheduleFactor(it, charModel) - expected)).toBeLessThan(1e-18);
    }
  });

  // From the same formula in Python, printed with repr().
  test.each([
    [0, 1e-5],
    [99, 1e-3],
    [100, 1e-3],
    [575, 0.0008681980515339464],
    [1050, 0.00055],
    [1999, 0.00010000061514140841],
  ])("step %i has rate %d", (step, rate) => {
    expect(1e-3 * scheduleFactor(step, charModel)).toBeCloseTo(rate, 17);
  });

  test("stays on the floor after the last step", () => {
    expect(scheduleFactor(2000, charModel)).toBe(0.1);
    expect(scheduleFactor(9999, charModel)).toBe(0.1);
  });
});

describe("warm-up, stable, decay", () => {
  test.each([
    [0, 0.1],
    [9, 1],
    [10, 1],
    [80, 1],
    [85, 0.75],
    [99, 0.05],
    [100, 0],
  ])("linear: step %i has factor %d", (step, factor) => {
    expect(scheduleFactor(step, wsd)).toBeCloseTo(factor, 14);
  });

  test("without a decay it is constant until the end", () => {
    expect(scheduleFactor(99, { ...wsd, decay: 0 })).toBe(1);
  });
});

test("constant warms up and stays", () => {
  expect([0, 1, 2, 3, 4, 1e6].map((step) => scheduleFactor(step, { kind: "constant", warmup: 4 }))).toEqual([0.25, 0.5, 0.75, 1, 1, 1]);
  expect(scheduleFactor(0, { kind: "constant", warmup: 0 })).toBe(1);
});

test.each<[Schedule, RegExp]>([
  [{ kind: "constant", warmup: -1 }, /warmup must be an integer/],
  [{ kind: "cosine", warmup: 0.5, steps: 10, floor: 0 }, /warmup must be an integer/],
  [{ kind: "cosine", warmup: 11, steps: 10, floor: 0 }, /11 steps of warm-up do not fit into 10;/],
  [{ kind: "cosine", warmup: 1, steps: 10, floor: 1.5 }, /floor is a fraction/],
  [{ ...wsd, decay: 91 }, /10 steps of warm-up and 91 of decay do not fit into 100;/],
  [{ ...wsd, decay: Number.NaN }, /decay must be an integer/],
])("%j is refused", (schedule, message) => {
  expect(() => checkSchedule(schedule)).toThrow(message);
  expect(() => checkSchedule(schedule)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_CONFIG" }));
});

test("schedules that fit exactly are accepted", () => {
  checkSchedule({ kind: "cosine", warmup: 10, steps: 10, floor: 1 });
  checkSchedule({ ...wsd, decay: 90 });
  checkSchedule(charModel);
});
