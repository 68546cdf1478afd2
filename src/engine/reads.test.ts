import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { nativeVariants } from "../../test/engines.js";
import { Tensor } from "../tensor/tensor.js";
import { loadEngine } from "./load.js";
import { ReferenceEngine } from "./reference.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-reads-"));
afterAll(() => rmSync(dir, { recursive: true }));
const page = 4096;
const path = join(dir, "file");
const bytes = Uint8Array.from({ length: 300 * page + 100 }, (_, i) => (i * 31 + (i >> 8)) % 256);
writeFileSync(path, bytes);
const cutShort = expect.objectContaining({ code: "ERR_SWITCHYARD_IO", message: expect.stringContaining("cut short") });

describe.each(nativeVariants.length === 0 ? ["reference"] : ["reference", "native"])("reads in the background: %s", (name) => {
  const engine = name === "native" ? loadEngine() : new ReferenceEngine();
  const region = engine.allocate(330 * page);
  afterAll(() => region.free());
  const at = (place: number, begin: number, length: number) => region.tensor("q8_0", [length], place * page + (begin % page));

  it.each([[0, 34], [2 * page, 34 * 300], [64, 34 * 64], [page - 64, 34 * 2], [298 * page + 64, 34 * 241], [page + 64, 34 * 35_000]])("from byte %i: %i bytes, whatever of a page they are", (begin, length) => {
    const file = engine.openFile(path);
    const out = at(0, begin, (length / 34) * 32);
    file.finish(file.start(out, begin, false));
    expect(Buffer.compare(engine.read(out) as Uint8Array, bytes.subarray(begin, begin + length))).toBe(0);
    file.close();
  });

  it("many at once, urgent or hurried, some of them stopped", () => {
    const file = engine.openFile(path);
    const outs = Array.from({ length: 300 }, (_, i) => ({ out: at(i % 32, (i % 9) * page + 64, 32), begin: (i % 9) * page + 64 }));
    const reads = outs.map(({ out, begin }, i) => file.start(out, begin, i % 3 === 0));
    expect(new Set(reads).size).toBe(name === "native" ? 300 : 1);
    file.hurry(reads[299] as number);
    for (const read of reads.filter((_, i) => i % 2 === 0)) file.stop(read);
    for (const read of reads) file.finish(read);
    const last = outs.length - 1;
    file.finish(file.start((outs[last] as (typeof outs)[0]).out, 64, true));
    expect(engine.read((outs[last] as (typeof outs)[0]).out)).toEqual(bytes.subarray(64, 98));
    file.close();
  });

  it("stopped while they run: nothing of them is written afterwards", () => {
    const file = engine.openFile(path);
    const out = at(0, 0, 32 * 36_000);
    for (let i = 0; i < 20; i++) {
      engine.write(out, new Uint8Array(out.bytes).fill(255));
      const read = file.start(out, 0, false);
      const left = file.stop(read);
      file.finish(read);
      const held = engine.read(out);
      if (left === 0) expect(Buffer.compare(held as Uint8Array, bytes.subarray(0, out.bytes))).toBe(0);
      else expect(left).toBeLessThanOrEqual(Math.ceil(out.bytes / page) * page);
      file.finish(file.start(at(299, 0, 32), 0, true));
      expect(Buffer.compare(engine.read(out) as Uint8Array, held as Uint8Array)).toBe(0);
    }
    file.close();
  });

  it("tell of a file that is not there, or is cut short", () => {
    expect(() => engine.openFile(join(dir, "missing"))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO" }));
    const shorter = join(dir, "shorter");
    writeFileSync(shorter, bytes);
    const file = engine.openFile(shorter);
    truncateSync(shorter, page + 80);
    expect(() => file.finish(file.start(at(0, page + 64, 32), page + 64, true))).toThrow(cutShort);
    expect(() => file.finish(file.start(at(0, 5 * page, 32), 5 * page, true))).toThrow(cutShort);
    file.close();
  });
});

it.skipIf(nativeVariants.length === 0)("the addon refuses reads that would write elsewhere, and numbers of no read or file", () => {
  const refused = expect.objectContaining({ code: "ERR_SWITCHYARD_ENGINE" });
  const engine = loadEngine({ engine: "native" });
  const region = engine.allocate(2 * page);
  const start = region.tensor("f32", [1], 0).storage as number;
  const file = engine.openFile(path);
  const out = (offset: number, elements: number) => new Tensor("f32", [elements], start + offset);
  for (const [tensor, begin] of [[out(4, 1), 0], [out(0, 4096), 0], [out(2 * page, 1), 0], [out(0, 1), -4096], [out(0, 0), 0]] as const) expect(() => file.start(tensor, begin, true)).toThrow(refused);
  for (const read of [0, -1, 0.5, 1e9]) {
    expect(() => file.finish(read)).toThrow(refused);
    expect(() => file.stop(read)).toThrow(refused);
  }
  const read = file.start(out(0, 1), 0, true);
  file.finish(read);
  expect(() => file.finish(read)).toThrow(refused);
  file.close();
  expect(() => file.start(out(0, 1), 0, true)).toThrow(refused);
  expect(() => file.close()).toThrow(refused);
  region.free();
});
