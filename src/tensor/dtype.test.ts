import { expect, it } from "vitest";
import { byteLength, type DType, dtypeBytes, isStored, storedBlocks } from "./dtype.js";

it("the types that weights are stored in are those of its table, and all others compute", () => {
  expect((Object.keys(storedBlocks) as DType[]).filter((dtype) => !isStored(dtype))).toEqual([]);
  expect((Object.keys(dtypeBytes) as DType[]).filter(isStored)).toEqual([]);
});

it("the bytes of elements are those of their blocks", () => {
  for (const [dtype, bytes] of Object.entries(dtypeBytes)) expect(byteLength(dtype as DType, 512)).toBe(512 * bytes);
  for (const [dtype, [elements, bytes]] of Object.entries(storedBlocks)) expect(byteLength(dtype as DType, 512)).toBe((512 / elements) * bytes);
});
