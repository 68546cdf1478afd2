import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { quote } from "./io.js";
import { nearest } from "./nearest.js";

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
