import { describe, expect, it } from "vitest";
import { sameBits, TestTensors } from "../../test/engines.js";
import { randomBlocks } from "../../test/stored.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { view } from "../tensor/tensor.js";
import { expertsIn, expertsOut, gatherRows, linear } from "./index.js";

describe("weights as a file stores them", () => {
  const engine = new ReferenceEngine();
  const t = new TestTensors(engine, 1);
  const tape = (recording = false) => new Tape(engine, new Arena(engine, 2 ** 20), { recording });
  const groups = { offsets: t.ints([0, 2, 3]), tokens: t.ints([0, 2, 1]), positions: t.of("i32", [3, 1], [0, 2, 1]) };
  const stored = (shape: number[], seed: number) => t.of("q8_0", shape, randomBlocks("q8_0", shape.reduce((a, b) => a * b), seed));
  const x = t.random([3, 64]);
  const [gate, up, down] = [stored([2, 32, 64], 2), stored([2, 32, 64], 3), stored([2, 64, 32], 4)];

  it("a list of weights gives their results side by side", () => {
    const parts = [stored([5, 64], 5), t.random([3, 64])];
    const both = engine.read(linear(tape(), x, parts));
    const [a, b] = parts.map((w) => engine.read(linear(tape(), x, w)));
    for (let m = 0; m < 3; m++) expect(sameBits(both.subarray(m * 8, m * 8 + 8), [...a!.subarray(m * 5, m * 5 + 5), ...b!.subarray(m * 3, m * 3 + 3)])).toBe(true);
  });

  it("experts' gate and up may be two tensors, or a tensor per expert", () => {
    const list = (w: typeof gate) => [0, 1].map((e) => view(w, w.shape.slice(1), e * 32 * 64));
    const run = (g: typeof gate | ReturnType<typeof list>, u: typeof g, d: typeof g) => {
      const on = tape();
      const hidden = expertsIn(on, x, g, groups, u);
      expect(hidden.shape).toEqual([3, 64]);
      return engine.read(expertsOut(on, view(hidden, [3, 32]), d, groups));
    };
    expect(sameBits(run(list(gate), list(up), list(down)), run(gate, up, down))).toBe(true);
  });

  it("let no gradient through", () => {
    const [wanted, table] = [t.random([3, 64]), stored([4, 64], 6)];
    wanted.requiresGrad = true;
    const refused = expect.objectContaining({ code: "ERR_SWITCHYARD_DTYPE" });
    expect(() => linear(tape(true), wanted, table)).toThrow(refused);
    expect(() => linear(tape(true), wanted, [t.random([2, 64]), t.random([2, 64])])).toThrow(refused);
    expect(() => expertsIn(tape(true), wanted, gate, groups)).toThrow(refused);
    expect(() => expertsOut(tape(true), wanted, stored([2, 64, 64], 7), groups)).toThrow(refused);
    expect(engine.read(linear(tape(true), x, table)).length).toBe(12);
    expect(engine.read(gatherRows(tape(true), table, t.ints([1]))).length).toBe(64);
  });
});
