import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type ErrorCode, errorCodes } from "../src/errors.js";

const text = readFileSync(join(import.meta.dirname, "../docs/errors.md"), "utf8");
const sections = new Map(text.split(/^## /m).slice(1).map((section) => [section.split("\n")[0]!.trim(), section]));

test("docs/errors.md has one section per code of src/errors.ts, in the same order", () => {
  expect([...text.matchAll(/^## (.+)$/gm)].map((match) => match[1])).toEqual(Object.keys(errorCodes));
});

test.each(Object.keys(errorCodes) as ErrorCode[])("%s: meaning, causes and remedy", (code) => {
  const section = sections.get(code) ?? "";
  expect(section.split("\n\n")[1], "opens with the line of the code table").toContain(errorCodes[code]);
  expect(section).toMatch(/^\*\*Typical causes\.\*\* \S/m);
  expect(section).toMatch(/^\*\*What to do\.\*\* \S/m);
});
