import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Maker } from "../../test/op-cases.js";
import type { Engine, GroupLimit } from "./engine.js";
import { erfc } from "./reference/special.js";
import { randomBits } from "./reference/random.js";
import { ReferenceEngine } from "./reference.js";

const engine: Engine = new ReferenceEngine();
const make = new Maker(engine);
const f = (shape: readonly number[], values: readonly number[]) => make.values("f", shape, values);
const i = (shape: readonly number[], values: readonly number[]) => make.values("i", shape, values);
const refusal = (code: string): unknown => expect.objectContaining({ code });

function choose(scores: readonly number[], k: number, bias?: readonly number[], groups?: GroupLimit): number[] {
  const out = i([1, k], new Array(k).fill(-9));
  engine.topK(out, f([1, scores.length], scores), { bias: bias && f([scores.length], bias), groups });
  return [...engine.read(out)];
}

describe("matmul", () => {
  it("nt, nn, tn give the products written out by hand", () => {
    const a = f([2, 2], [1, 2, 3, 4]);
    const b = f([2, 2], [5, 6, 7, 8]);
    const out = f([2, 2], [1, 1, 1, 1]);
    engine.matmul("nn", out, a, b);
    expect([...engine.read(out)]).toEqual([19, 22, 43, 50]);
    engine.matmul("nt", out, a, b, { accumulate: true });
    expect([...engine.read(out)]).toEqual([19 + 17, 22 + 23, 43 + 39, 50 + 53]);
    engine.matmul("tn", out, a, b);
    expect([...engine.read(out)]).toEqual([26, 30, 38, 44]);
  });

  it("bf16 rounds operands to eight significant bits, ties to even", () => {
    const out = f([4, 1], [0, 0, 0, 0]);
    engine.matmul("nt", out, f([4, 1], [1 + 1 / 256, 1 + 3 / 256, 1.01, -1.01]), f([1, 1], [1]), { precision: "bf16" });
    expect([...engine.read(out)]).toEqual([1, 1 + 4 / 256, 1.0078125, -1.0078125]);
  });
});

describe("topK", () => {
  it("orders from best to worst, ties to the lower column, NaN last", () => {
    expect(choose([1, 3, 2, 3], 3)).toEqual([1, 3, 2]);
    expect(choose([Number.NaN, -Infinity, -5], 3)).toEqual([2, 0, 1]);
  });

  it("adds the bias before choosing", () => {
    expect(choose([1, 3, 2, 0], 2, [0, -9, 0, 3])).toEqual([3, 2]);
  });

  it("rounds biased scores to f32 before comparing, so that ties are the same on every engine", () => {
    expect(choose([1, 1 + 2 ** -23], 1, [2 ** 25, 2 ** 25])).toEqual([0]);
  });

  it("keeps to the best groups by their best expert or their two best", () => {
    const scores = [9, 0, 0, 5, 5, 1, 4, 5, 5];
    expect(choose(scores, 4, undefined, { count: 3, keep: 1, score: "max" })).toEqual([0, 1, 2, 3]);
    expect(choose(scores, 3, undefined, { count: 3, keep: 2, score: "max" })).toEqual([0, 3, 4]);
    expect(choose(scores, 3, undefined, { count: 3, keep: 2, score: "top2sum" })).toEqual([3, 4, 7]);
  });
});

describe("sortByExpert and combineRows", () => {
  it("sorts slots stably, drops negative experts and adds each token's rows", () => {
    const experts = i([3, 2], [2, 0, -1, 2, 0, 2]);
    const [offsets, slots, tokens, positions] = [i([4], [7, 7, 7, 7]), i([6], new Array(6).fill(7)), i([6], new Array(6).fill(7)), i([3, 2], new Array(6).fill(7))];
    engine.sortByExpert(offsets, slots, tokens, positions, experts);
    expect([...engine.read(offsets)]).toEqual([0, 2, 2, 5]);
    expect([...engine.read(slots)]).toEqual([1, 4, 0, 3, 5, -1]);
    expect([...engine.read(tokens)]).toEqual([0, 2, 0, 1, 2, -1]);
    expect([...engine.read(positions)]).toEqual([2, 0, -1, 3, 1, 4]);
    const out = f([3, 1], [100, 100, 100]);
    engine.combineRows(out, f([6, 1], [1, 2, 4, 8, 16, 32]), positions, true);
    expect([...engine.read(out)]).toEqual([105, 108, 118]);
  });
});

describe("crossEntropy", () => {
  it("is log(V) for equal logits and 0 for a negative target, whatever the size of the logits", () => {
    const losses = f([3], [9, 9, 9]);
    const logits = f([3, 2], [700, 700, 1, 2, 0, Math.log(3)]);
    engine.crossEntropy(losses, logits, i([3], [1, -1, 0]));
    expect([...engine.read(losses)]).toEqual([Math.fround(Math.log(2)), 0, Math.fround(Math.log(4))]);
    engine.crossEntropyBackward(logits, f([3], [1, 1, 2]), logits, i([3], [1, -1, 0]));
    expect([...engine.read(logits)]).toEqual([0.5, -0.5, 0, 0, -1.5, 1.5]);
  });
});

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

  it("give uniform numbers (chi squared over pairs of successive elements)", () => {
    const out = f([n], new Array(n).fill(0));
    engine.uniform(out, 0, 1, 42);
    const u = engine.read(out);
    const cells = new Array(256).fill(0);
    for (let k = 0; k < n; k += 2) cells[Math.floor(u[k] * 16) * 16 + Math.floor(u[k + 1] * 16)]++;
    const expected = n / 2 / 256;
    const chi2 = cells.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(Math.abs(chi2 - 255)).toBeLessThan(5 * Math.sqrt(2 * 255));
  });

  it("give normal numbers with the right moments and no correlation between neighbours", () => {
    const out = f([n], new Array(n).fill(0));
    engine.normal(out, 2, 43);
    const z = Array.from(engine.read(out), (x) => x / 2);
    const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / n;
    const within = 5 / Math.sqrt(n);
    expect(Math.abs(mean(z))).toBeLessThan(within);
    expect(Math.abs(mean(z.map((x) => x * x)) - 1)).toBeLessThan(within * Math.sqrt(2));
    expect(Math.abs(mean(z.map((x) => x ** 4)) - 3)).toBeLessThan(within * Math.sqrt(96));
    for (const lag of [1, 2]) expect(Math.abs(mean(z.map((x, k) => x * z[(k + lag) % n])))).toBeLessThan(within);
  });

  it("drop the given share of elements", () => {
    const out = f([n], new Array(n).fill(0));
    engine.dropout(out, f([n], new Array(n).fill(3)), 0.25, 44);
    const kept = engine.read(out).filter((x) => x === 4).length;
    expect(engine.read(out).every((x) => x === 0 || x === 4)).toBe(true);
    expect(Math.abs(kept - 0.75 * n)).toBeLessThan(5 * Math.sqrt(n * 0.25 * 0.75));
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
    expect(() => region.tensor("f32", [1], 4)).toThrow(refusal("ERR_SWITCHYARD_ENGINE"));
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

describe("bad indices are refused", () => {
  const table = f([2, 3], new Array(6).fill(0));
  const out = f([1, 3], [0, 0, 0]);
  it.each<[string, () => void]>([
    ["gatherRows", () => engine.gatherRows(out, table, i([1], [2]))],
    ["crossEntropy", () => engine.crossEntropy(f([1], [0]), out, i([1], [3]))],
    ["sortByExpert", () => engine.sortByExpert(i([3], [0, 0, 0]), i([1], [0]), i([1], [0]), i([1, 1], [0]), i([1, 1], [2]))],
    ["groupedMatmul", () => engine.groupedMatmul("nt", f([2, 1], [0, 0]), table, f([2, 1, 3], new Array(6).fill(0)), i([3], [0, 2, 1]))],
  ])("%s", (_, run) => {
    expect(run).toThrow(refusal("ERR_SWITCHYARD_ENGINE"));
  });
});
