import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { describeNative, sameBits, TestTensors } from "../../test/engines.js";
import { randomBlocks } from "../../test/stored.js";
import { Tensor, view } from "../tensor/tensor.js";
import type { Engine } from "./engine.js";
import { loadEngine } from "./load.js";
import { ReferenceEngine } from "./reference.js";

const refused = expect.objectContaining({ name: "SwitchyardError", code: "ERR_SWITCHYARD_ENGINE" });

describeNative("ops that are run together", () => {
  const engine = loadEngine({ engine: "native", threads: 2 }) as Engine & { addon: Record<string, (...args: unknown[]) => unknown> };
  const t = new TestTensors(engine, 1);
  afterAll(() => t[Symbol.dispose]());

  it("give the bits that they give one by one, lists of experts included", () => {
    const weights = [1, 2].map((seed) => t.of("q4_k", [4, 37, 512], randomBlocks("q4_k", 4 * 37 * 512, seed)));
    const [gate, up] = weights.map((w) => [0, 1, 2, 3].map((e) => view(w, [37, 512], e * 37 * 512)));
    const [x, y, out] = [t.random([12, 512]), t.random([12, 74]), t.random([12, 37])];
    const offsets = t.ints([0, 1, 1, 10, 12]);
    const layer = () => {
      engine.groupedMatmul("nt", y, x, gate!, offsets, { beside: up! });
      engine.glu(out, y, { activation: "silu", gated: true, offsets });
      engine.scale(out, out, 0.5);
      return engine.rmsNorm(out, out, undefined, 1e-5);
    };
    layer();
    const expected = engine.read(out);
    engine.fill(out, 0);
    engine.together(layer);
    expect(sameBits(engine.read(out), expected)).toBe(true);
  });

  it("are run at once where no list has room for their experts", () => {
    const experts = 9000;
    const weights = t.random([experts, 1, 16]);
    const [gate, up] = [0, 1].map(() => Array.from({ length: experts }, (_, e) => view(weights, [1, 16], e * 16)));
    const [x, y] = [t.random([2, 16]), t.random([2, 2])];
    const offsets = t.ints(Array.from({ length: experts + 1 }, (_, e) => (e <= 3 ? 0 : e < experts ? 1 : 2)));
    const compute = () => {
      engine.fill(x, 0.5);
      engine.groupedMatmul("nt", y, x, gate!, offsets, { beside: up! });
      engine.scale(y, y, 2);
    };
    compute();
    const expected = engine.read(y);
    engine.fill(x, 0);
    engine.fill(y, 0);
    engine.together(compute);
    expect(engine.read(y)).toEqual(expected);
    expect(expected[0]).not.toBe(expected[2]);
  });

  it("run before engine memory is read, written or freed, in the order of the calls, however many they are", () => {
    const [x, y] = [t.random([8]), t.random([8])];
    const seen = engine.together(() => {
      engine.fill(x, 2);
      const before = engine.read(x)[0];
      for (let i = 0; i < 5000; i++) engine.scale(y, x, i);
      engine.write(x, new Float32Array(8).fill(3));
      const region = engine.allocate(4096);
      const own = region.tensor("f32", [8], 0);
      engine.copy(own, x);
      engine.binary("add", y, y, own);
      region.free();
      return engine.together(() => [before, engine.read(x)[0], engine.read(y)[0]]);
    });
    expect(seen).toEqual([2, 3, 2 * 4999 + 3]);
    expect(new ReferenceEngine().together(() => 5)).toBe(5);
  });

  it.each([1, 2, 3])("are run once each, in order, while others are prepared, by %i threads", (threads) => {
    engine.threads = threads;
    const [x, y, big] = [t.random([8]), t.random([8]), t.random([512, 512])];
    for (let round = 0; round < 20; round++) {
      engine.fill(x, 1);
      engine.fill(y, 1);
      engine.together(() => {
        for (let i = 0; i < 400; i++) {
          if (i % 20 === round) engine.unary("exp", big, big);
          engine.binary(i % 2 === 0 ? "add" : "sub", x, x, y);
          engine.scale(y, y, 2);
          if (i % 100 === 99) engine.fill(y, 1);
        }
      });
      // 1 - 2 + 4 - ... of 100 powers of two, four times; in order, since 2^100 would round what came before.
      const once = (start: number) => Array.from({ length: 100 }, (_, i) => i).reduce((sum, i) => Math.fround(sum + (-1) ** i * 2 ** i), start);
      expect(engine.read(x)[0]).toBe([1, 2, 3, 4].reduce(once, 1));
    }
    engine.threads = 2;
  });

  it("keep their order among the engines of one addon", () => {
    const other = loadEngine({ engine: "native", threads: 2 });
    const region = engine.allocate(8192);
    const [x, y, kept] = [t.random([8]), t.random([8]), region.tensor("q8_0", [64], 0)];
    const file = other.openFile(fileURLToPath(import.meta.url));
    const seen = engine.together(() => {
      engine.fill(x, 1);
      other.together(() => {
        for (let i = 0; i < 50; i++) other.scale(x, x, 2);
        engine.copy(y, x);
      });
      other.scale(y, y, 2);
      return other.read(y)[0];
    });
    expect(seen).toBe(2 ** 51);
    // A read into memory that ops of another engine have yet to write.
    engine.together(() => {
      for (let i = 0; i < 50; i++) engine.copy(kept, view(kept, [64]));
      engine.copy(kept, t.of("q8_0", [64], new Uint8Array(68)));
      file.finish(file.start(kept, 0, true));
    });
    expect(Buffer.from(engine.read(kept).buffer).toString()).toBe(readFileSync(import.meta.filename, "utf8").slice(0, 68));
    file.close();
    region.free();
  });

  it("throw what the first op throws that fails, and all of them run", () => {
    const [x, y] = [t.random([8]), t.random([8])];
    const fail = (bad: () => void) => () =>
      engine.together(() => {
        engine.fill(y, 1);
        bad();
        engine.fill(y, 2);
      });
    const refuses = () => engine.fill(new Tensor("f32", [8], 64), 0);
    expect(fail(refuses)).toThrow(refused);
    expect(engine.read(y)[0]).toBe(2);
    expect(fail(() => engine.copy(x, new Tensor("f32", [8], new Float32Array(8))))).toThrow(refused);
    expect(engine.read(y)[0]).toBe(2);
    expect(fail(() => engine.copy(x, t.random([9])))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_SHAPE" }));
    expect(engine.read(y)[0]).toBe(1);
    const many = (first: () => void, last: () => void) => () =>
      engine.together(() => {
        first();
        for (let i = 0; i < 300; i++) engine.fill(y, i);
        last();
      });
    expect(many(refuses, () => {})).toThrow(refused);
    expect(engine.read(y)[0]).toBe(299);
    const ends = () => {
      throw new RangeError("of the caller");
    };
    engine.fill(y, 3);
    expect(many(() => {}, ends)).toThrow(RangeError);
    expect(engine.read(y)[0]).toBe(299);
    expect(many(refuses, ends)).toThrow(refused);
  });

  it("come from well-formed lists only", () => {
    const { run, commands } = engine.addon as unknown as { run: (list: unknown, length: unknown) => void; commands: () => string[] };
    const fill = commands().indexOf("fill");
    for (const list of [[-1, 0, 0], [commands().length, 0, 0], [fill, 33, 0], [fill, 4, 1e9], [fill, Number.NaN, 0], [fill, 4], [fill, 4, 0, 1], [fill, 3, 0, 64, 1, 2], [fill, 4, 1, 64, 1, 2, 0, 5]]) {
      expect(() => run(Float64Array.from(list), list.length), list.join()).toThrow(refused);
    }
    expect(() => run(new Float64Array(2), 3)).toThrow(refused);
    expect(() => run(new Float32Array(2), 2)).toThrow(refused);
    expect(() => run(3, 0)).not.toThrow();
  });
});
