import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { PieceWriter } from "./piece-writer.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-pieces-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** `total` bytes in chunks of `each`. */
function* chunks(total: number, each: number): Generator<Uint8Array> {
  for (let at = 0; at < total; at += each) yield Uint8Array.from({ length: Math.min(each, total - at) }, (_, i) => ((at + i) * 31) >> 3);
}

it.each([
  [0, 1],
  [10, 3],
  [2 ** 22, 2 ** 20],
  [9 * 2 ** 20 + 5, 1_000_003],
  [9 * 2 ** 20 + 5, 9 * 2 ** 20 + 5],
])("%i bytes in chunks of %i become the file", async (total, each) => {
  const path = join(folder, `${total}-${each}`);
  await using handle = await open(path, "w");
  const file = new PieceWriter(handle);
  await file.writeAll(chunks(total, each), total, () => "all");
  await file.flush();
  expect(readFileSync(path).equals(Buffer.concat([...chunks(total, each)]))).toBe(true);
});

it("refuses other than the expected number of bytes", async () => {
  await using handle = await open(join(folder, "short"), "w");
  await expect(new PieceWriter(handle).writeAll(chunks(10, 4), 11, () => "tensor x")).rejects.toMatchObject({ code: "ERR_SWITCHYARD_FORMAT", message: "tensor x: expected 11 bytes, got 10" });
});
