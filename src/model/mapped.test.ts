import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { describeNative } from "../../test/engines.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import type { DType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { copyMapped, mapWeight, type StoredRows } from "./mapped.js";
import { MappedFiles } from "./mapped-files.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-mapped-"));
afterAll(() => rmSync(dir, { recursive: true }));
const file = join(dir, "weights");
const columns = 4;
// Row r holds r, r, r, r.
writeFileSync(file, Float32Array.from({ length: 64 * columns }, (_, i) => Math.floor(i / columns)));

/** `rows` rows from row `first` of the file on. */
const stored = (first: number, rows: number, at: (r: number) => number, dtype: DType = "f32"): StoredRows => ({ file, dtype, begin: first * 4 * columns, rows, at });

describeNative("a parameter in mapped files", () => {
  const engine = loadEngine();
  const arena = new Arena(engine, 2 ** 20);
  const files = new MappedFiles(engine);
  afterAll(() => {
    arena[Symbol.dispose]();
    files[Symbol.dispose]();
  });
  const map = (shape: number[], parts: StoredRows[]) => mapWeight(files, arena, engine, shape, parts);
  /** First elements of the rows of each part, matrix by matrix. */
  const rowsOf = (part: Tensor | readonly Tensor[]) => ("shape" in part ? [part] : part).map((t) => Array.from(engine.read(t)).filter((_, i) => i % columns === 0));

  it("is one tensor where one file tensor holds it", () => {
    expect(map([3, columns], [stored(5, 3, (r) => r)])?.map(rowsOf)).toEqual([[[5, 6, 7]]]);
  });

  it("is two parts where gate and up stand apart, in the order of the parameter", () => {
    expect(map([4, columns], [stored(10, 2, (r) => 2 + r), stored(20, 2, (r) => r)])?.map(rowsOf)).toEqual([[[20, 21]], [[10, 11]]]);
  });

  it("is a matrix per expert, from one stack or from tensors of their own", () => {
    expect(map([2, 3, columns], [stored(0, 6, (r) => r)])?.map(rowsOf)).toEqual([[[0, 1, 2], [3, 4, 5]]]);
    // Gate and up of two experts, one stack each: rows 0, 1 of every matrix are the gate's.
    const halves = [0, 2].map((half) => stored(30 + 10 * half, 4, (r) => Math.floor(r / 2) * 4 + half + (r % 2)));
    expect(map([2, 4, columns], halves)?.map(rowsOf)).toEqual([[[30, 31], [32, 33]], [[50, 51], [52, 53]]]);
    expect(map([2, 1, columns], [stored(9, 1, () => 1), stored(8, 1, () => 0)])?.map(rowsOf)).toEqual([[[8], [9]]]);
  });

  it("leaves out the rows of a file tensor that belong to another parameter", () => {
    expect(map([2, columns], [stored(0, 6, (r) => (r < 2 || r > 3 ? -1 : r - 2))])?.map(rowsOf)).toEqual([[[2, 3]]]);
  });

  it("is copied in its stored type where rows are in another order", () => {
    const half = join(dir, "half");
    writeFileSync(half, Uint16Array.from({ length: 6 * columns }, (_, i) => 0x3f80 + Math.floor(i / columns))); // bf16
    const interleaved = (r: number) => (r % 2) * 3 + (r >> 1);
    const [part] = map([6, columns], [{ file: half, dtype: "bf16", begin: 0, rows: 6, at: interleaved }]) as [Tensor];
    expect(part).toMatchObject({ dtype: "bf16", shape: [6, columns] });
    const bits = new Uint16Array((engine.read(part) as Uint8Array).slice().buffer);
    expect(Array.from(bits).filter((_, i) => i % columns === 0)).toEqual([0, 2, 4, 1, 3, 5].map((r) => 0x3f80 + r));
  });

  it("has to be read where floats are not aligned, or stand in another order", () => {
    expect(map([2, columns], [{ ...stored(0, 2, (r) => r), begin: 2 }])).toBeUndefined();
    expect(map([3, columns], [stored(0, 3, (r) => 2 - r)])).toBeUndefined();
  });

  it("can be copied out as floats", () => {
    const target = arena.alloc("f32", [2, 4, columns]);
    const halves = [0, 2].map((half) => stored(30 + 10 * half, 4, (r) => Math.floor(r / 2) * 4 + half + (r % 2)));
    copyMapped(engine, target, map([2, 4, columns], halves) ?? []);
    expect(Array.from(engine.read(target)).filter((_, i) => i % columns === 0)).toEqual([30, 31, 50, 51, 32, 33, 52, 53]);
  });
});
