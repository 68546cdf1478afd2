import { describe, expect, test } from "vitest";
import { stepRecord } from "../../../test/fixtures/step-record.js";
import { visibleWidth } from "./format.js";
import { Progress } from "./progress.js";

/** A progress display whose clock and stream the test holds. */
function setup(stream: { isTTY?: boolean; columns?: number }, options: { env?: Record<string, string>; startStep?: number } = {}) {
  const written: string[] = [];
  const clock = { ms: 0 };
  const progress = new Progress({
    totalSteps: 100,
    stream: { ...stream, write: (text) => written.push(text) },
    now: () => clock.ms,
    env: {},
    ...options,
  });
  return { progress, written, clock };
}

const full = "step 10/100  loss 2.500  12.3k tok/s  eta 3m00s  layer 2 \u2588\u2583\u2585_  maxvio 1.00";

describe("on a terminal", () => {
  test("one line rewrites itself, with the layer of the worst load", () => {
    const { progress, written, clock } = setup({ isTTY: true, columns: 120 }, { env: { NO_COLOR: "1" } });
    clock.ms = 20_000;
    progress.update(stepRecord(10));
    clock.ms = 22_000;
    progress.update(stepRecord(11, { loss: 2.4567 }));
    progress.finish();
    expect(written[0]).toBe(`\r\u001b[2K${full}`);
    expect(written[1]).toMatch(/^\r\u001b\[2Kstep 11\/100 {2}loss 2\.457 /);
    expect(written.slice(2)).toEqual(["\n"]);
  });

  test("repaints at most ten times a second, but always for an evaluation and at the end", () => {
    const { progress, written, clock } = setup({ isTTY: true });
    for (let step = 1; step <= 100; step++) {
      clock.ms = step * 10;
      progress.update(stepRecord(step, step === 55 ? { eval: { loss: 2, perplexity: 7.39 } } : {}));
    }
    const shown = written.map((text) => Number(/(\d+)\/100/.exec(text)![1]));
    expect(shown).toEqual([1, 11, 21, 31, 41, 51, 55, 65, 75, 85, 95, 100]);
    expect(written.at(-1)).toContain("val ");
    expect(written.at(-1)).not.toContain("eta");
  });

  test("the time left counts the steps of this process only", () => {
    const { progress, written, clock } = setup({ isTTY: true, columns: 120 }, { startStep: 60 });
    clock.ms = 10_000;
    progress.update(stepRecord(70));
    expect(written[0]).toContain("eta 30s");
  });

  test.each([
    [75, /tok\/s.*eta.*layer 2.*maxvio/],
    [74, /tok\/s.*eta.*layer 2 ....$/],
    [62, /tok\/s.*eta.*layer 2 ....$/],
    [61, /loss 2\.500 {2}eta 3m00s {2}layer 2 ....$/],
    [49, /eta.*layer 2 ....$/],
    [48, /loss 2\.500 {2}eta 3m00s$/],
    [30, /^step 10\/100 {2}loss 2\.500$/],
    [5, /^step 10\/100$/],
  ])("fits into %i columns", (columns, expected) => {
    const { progress, written, clock } = setup({ isTTY: true, columns }, { env: { FORCE_COLOR: "1" } });
    clock.ms = 20_000;
    progress.update(stepRecord(10));
    const line = written[0]!.slice("\r\u001b[2K".length);
    expect(line).toContain("\u001b[1m");
    expect(line.replaceAll(/\u001b\[\d+m/g, "")).toMatch(expected);
    if (columns > 12) expect(visibleWidth(line)).toBeLessThan(columns);
  });

  test("a message stands above the line", () => {
    const { progress, written } = setup({ isTTY: true });
    progress.message("before");
    progress.update(stepRecord(1));
    progress.message("saved");
    expect(written[0]).toBe("before\n");
    expect(written[2]).toBe(`\r\u001b[2Ksaved\n${written[1]!.slice("\r\u001b[2K".length)}`);
  });
});

describe("elsewhere", () => {
  test("plain lines every ten seconds, for evaluations and at the end", () => {
    const { progress, written, clock } = setup({});
    for (let step = 1; step <= 100; step++) {
      clock.ms = step * 300;
      progress.update(stepRecord(step, step === 50 ? { eval: { loss: 2, perplexity: 7.39 } } : {}));
    }
    progress.finish();
    expect(written.map((text) => Number(/(\d+)\/100/.exec(text)![1]))).toEqual([1, 35, 50, 84, 100]);
    expect(written.join("")).not.toMatch(/[\r\u001b]/);
    expect(written[2]).toContain("val 2.000");
  });

  test("a dense model has no load to show", () => {
    const { progress, written, clock } = setup({});
    clock.ms = 20_000;
    progress.update(stepRecord(10, { moe: [] }));
    expect(written).toEqual(["step 10/100  loss 2.500  12.3k tok/s  eta 3m00s\n"]);
  });

  test("the first record of a run has no time left to show yet", () => {
    const { progress, written } = setup({});
    progress.update(stepRecord(0));
    expect(written[0]).toContain("eta ?");
  });
});
