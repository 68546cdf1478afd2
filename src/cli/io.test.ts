import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { processIo, quote } from "./io.js";
import { loadProgress } from "./load-model.js";
import { nearest } from "../options.js";

test.skipIf(process.platform === "win32")("quoted arguments come out of a shell as they went in", () => {
  for (const text of ["a/b.txt", "two words", 'a "b"', "$HOME", "it's `x` \\ !", "it's", ""]) {
    expect(execFileSync("sh", ["-c", `printf %s ${quote(text)}`], { encoding: "utf8" }), text).toBe(text);
  }
});

test("the nearest known word, if it is near", () => {
  const known = ["learningRate", "minLearningRate", "steps", "seed"];
  expect(nearest("learning_rate", known)).toBe("learningRate");
  expect(nearest("stpes", known)).toBe("steps");
  expect(nearest("sed", known)).toBe("seed");
  expect(nearest("epochs", known)).toBeUndefined();
});

test("packing weights is shown on a terminal, from the first second on, and leaves no line behind", () => {
  let ms = 0;
  const told = (stderr: { isTTY?: boolean }, json?: boolean) => {
    const written: string[] = [];
    ms = 0;
    const onProgress = loadProgress({ ...processIo(), stderr: { ...stderr, write: (text) => written.push(text) } }, json, () => ms);
    for (const [at, done] of [[500, 1], [1000, 2], [1050, 3], [1100, 4], [1110, 5]] as const) {
      ms = at;
      onProgress?.(done * 2 ** 20, 5 * 2 ** 20);
    }
    return written;
  };
  expect(told({ isTTY: true })).toEqual(["\r\u001b[2Kpacking weights: 2.0 MiB of 5.0 MiB", "\r\u001b[2Kpacking weights: 4.0 MiB of 5.0 MiB", "\r\u001b[2K"]);
  expect([told({}), told({ isTTY: true }, true)]).toEqual([[], []]);
});
