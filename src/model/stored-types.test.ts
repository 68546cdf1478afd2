import { expect, it } from "vitest";
import { type FileType, parameterType } from "./stored-types.js";

it.each<[FileType, string, boolean, FileType]>([
  ["Q4_0", "head", false, "Q6_K"],
  ["Q4_0", "embedding", false, "Q4_0"],
  ["Q4_0", "embedding", true, "Q6_K"], // which is the output table too
  ["Q8_0", "embedding", true, "Q8_0"],
  ["Q8_0", "head", false, "Q8_0"],
  ["Q8_0", "layers.1.shared.gate", false, "F32"],
])("in a file of %s, %s (tied: %s) is %s", (type, name, tiedEmbeddings, expected) => {
  expect(parameterType(type, name, { tiedEmbeddings })).toBe(expected);
});
