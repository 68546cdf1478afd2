import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { erfc } from "./reference/special.js";
import { randomBits } from "./reference/random.js";
import { ReferenceEngine } from "./reference.js";

const engine = new ReferenceEngine();
const refusal = (code: string): unknown => expect.objectContaining({ code });

describe("random bits", () => {
  const n = 1 << 16;

  it("are fair in every position, and flip by halves when the index or any seed bit changes", () => {
    const bits = randomBits(1);
    const others = [(index: number) => bits(index + 1), (index: number) => bits(index ^ 0x100), ...[1, 2 ** 20, 2 ** 32, 2 ** 52].map((d) => randomBits(1 + d))];
    for (const other of [() => 0, ...others]) {
      const ones = new Array(32).fill(0);
      for (let index = 0; index < n; index++) {
        const difference = bits(index) ^ other(index);
        for (let b = 0; b < 32; b++) ones[b] += (difference >>> b) & 1;
      }
      for (const count of ones) expect(Math.abs(count - n / 2)).toBeLessThan(5 * Math.sqrt(n / 4));
    }
  });
});

describe("erfc", () => {
  it.each([[0, 1], [0.5, 0.4795001221869535], [2, 0.004677734981047266], [2.5, 4.069520174449589e-4], [5, 1.5374597944280349e-12], [-1, 1.842700792949715]])("at %s is %s", (x, expected) => {
    expect(Math.abs(erfc(x) / expected - 1)).toBeLessThan(1e-13);
  });
});

describe("memory", () => {
  it("counts what it holds, gives back what is freed and refuses tensors outside a region", () => {
    const own = new ReferenceEngine();
    const region = own.allocate(256);
    expect(own.allocatedBytes).toBe(256);
    const t = region.tensor("f32", [48], 64);
    expect([...own.read(t)]).toEqual(new Array(48).fill(0));
    expect(() => region.tensor("f32", [49], 64)).toThrow(refusal("ERR_SWITCHYARD_ENGINE"));
    expect(() => region.tensor("f32", [1], 2)).toThrow(refusal("ERR_SWITCHYARD_ENGINE"));
    region.free();
    region.free();
    expect(own.allocatedBytes).toBe(0);
    expect(() => region.tensor("f32", [1], 0)).toThrow(refusal("ERR_SWITCHYARD_ENGINE"));
    expect(() => own.allocate(2 ** 52)).toThrow(refusal("ERR_SWITCHYARD_MEMORY"));
  });

  it("reads files, and names one that it cannot read", () => {
    const folder = mkdtempSync(join(tmpdir(), "switchyard-"));
    try {
      const path = join(folder, "x.bin");
      writeFileSync(path, new Uint8Array(new Float32Array([1, 2, 3]).buffer));
      expect([...engine.read(engine.mapFile(path).tensor("f32", [2], 4))]).toEqual([2, 3]);
      expect(() => engine.mapFile(join(folder, "absent"))).toThrow(refusal("ERR_SWITCHYARD_IO"));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
