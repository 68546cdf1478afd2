import { describe, expect, test } from "vitest";
import { colorEnabled, formatBytes, formatDuration, formatNumber, loadBar, painter, visibleWidth } from "./format.js";

const plain = painter(false);
const stream = (isTTY: boolean) => ({ isTTY, write: () => true });

test.each<[boolean, Record<string, string>, boolean]>([
  [true, {}, true],
  [false, {}, false],
  [true, { NO_COLOR: "1" }, false],
  [true, { NO_COLOR: "" }, true],
  [true, { TERM: "dumb" }, false],
  [false, { FORCE_COLOR: "1" }, true],
  [true, { FORCE_COLOR: "0" }, false],
  [true, { FORCE_COLOR: "3", NO_COLOR: "1" }, true],
])("colour on a terminal (%s) with %j: %s", (isTTY, env, expected) => {
  expect(colorEnabled(stream(isTTY), env)).toBe(expected);
});

test.each([
  [0, "0"], [7, "7"], [999, "999"], [999.6, "1.00k"], [1000, "1.00k"], [12_345, "12.3k"], [99_960, "100k"], [999_950, "1.00M"], [7e10, "70.0G"],
  [-4200, "-4.20k"], [0.012345, "0.0123"], [1.5, "1.50"], [9.996, "10.0"], [2.5e18, "2500P"], [Number.NaN, "NaN"], [Infinity, "Infinity"],
])("formatNumber(%d) = %s", (n, expected) => {
  expect(formatNumber(n)).toBe(expected);
});

test.each([[0, "0 B"], [1023, "1023 B"], [1536, "1.5 KiB"], [300_000_000, "286.1 MiB"], [2 ** 40, "1.0 TiB"], [2 ** 52, "4096.0 TiB"]])("formatBytes(%d) = %s", (n, expected) => {
  expect(formatBytes(n)).toBe(expected);
});

test.each([
  [0, "0.0s"], [0.34, "0.3s"], [9.96, "10s"], [45, "45s"], [59.6, "1m00s"], [185, "3m05s"], [3599.7, "1h00m"], [7620, "2h07m"], [86_399, "1d00h"], [100_800, "1d04h"], [Number.NaN, "?"],
])("formatDuration(%d) = %s", (seconds, expected) => {
  expect(formatDuration(seconds)).toBe(expected);
});

test("visibleWidth does not count colours", () => {
  expect(visibleWidth(`${painter(true)("abc", "red")}\u2581`)).toBe(4);
});

describe("loadBar", () => {
  test("balanced is half a block each", () => {
    expect(loadBar([0.25, 0.25, 0.25, 0.25], plain)).toBe("\u2584".repeat(4));
  });

  test("dead, low, mean, and twice the mean or more", () => {
    expect(loadBar([0, 1, 4, 8, 12, 4, 1, 2], plain)).toBe("_\u2581\u2584\u2588\u2588\u2584\u2581\u2582");
  });

  test("shows the largest of the experts that share a character", () => {
    expect(loadBar([1, 1, 1, 5, 0, 0, 0, 0], plain, 4)).toBe("\u2584\u2588__");
    expect(visibleWidth(loadBar(new Array<number>(100).fill(1), painter(true), 7))).toBe(7);
  });

  test("without any load every expert is dead", () => {
    expect(loadBar([0, 0], plain)).toBe("__");
  });

  test("colours say how far from the mean", () => {
    expect(loadBar([0, 1, 3, 5, 11], (_, color) => `${color} `)).toBe("magenta blue green green red ");
  });
});
