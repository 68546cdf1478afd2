import { expect, it, vi } from "vitest";
import { describeVariants, TestTensors } from "../../test/engines.js";
import { sizeOf, Tensor, view } from "../tensor/tensor.js";
import type { Engine } from "./engine.js";
import { loadEngine } from "./load.js";
import type { NativeAddon } from "./native-addon.js";

const options = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, step: 3, gradScale: 0.5 };

/** Weights of experts, their gradient and moments. */
type Quartet = readonly [param: Tensor, grad: Tensor, m: Tensor, v: Tensor];
const quartet = (t: TestTensors, shape: readonly number[]): Quartet => [t.random(shape), t.random(shape), t.random(shape), positive(t, shape)];
const positive = (t: TestTensors, shape: readonly number[]) => t.of("f32", shape, Float32Array.from({ length: sizeOf(shape) }, (_, i) => (i % 97) / 97));
const bits = (engine: Engine, ...tensors: readonly Tensor[]) => tensors.map((t) => Buffer.from(engine.read(t).buffer).toString("latin1"));

describeVariants("updates of experts", (isa) => {
  const engine = loadEngine({ engine: "native", isa });
  const { addon } = engine as unknown as { addon: NativeAddon };
  /** An update of two matrices [5, 6] that waits, and the same of vectors, which do not wait. */
  const updated = (t: TestTensors): { late: Quartet; soon: Quartet } => {
    const late = quartet(t, [2, 5, 6]);
    const soon = late.map((from) => t.of("f32", [60], engine.read(from))) as readonly Tensor[] as Quartet;
    engine.adamW(...soon, options);
    engine.adamW(...late, options);
    return { late, soon };
  };

  it.each([
    [[0, 1, 7, 24, 25, 60, 0], 33, 40],
    [[130, 0, 5], 70, 300],
    [[1100, 100], 64, 48],
    [[0, 0], 8, 8],
  ])("are those of single tensors when products make them, with %j rows", (counts, f, d) => {
    for (const threads of [1, 2]) {
      for (const precision of ["f32", "bf16"] as const) {
        using t = new TestTensors(engine, 5);
        engine.threads = threads;
        const n = counts.reduce((sum, c) => sum + c);
        const offsets = t.ints(counts.reduce((all, c) => [...all, (all.at(-1) as number) + c], [0]));
        const [param, grad, m, v] = quartet(t, [counts.length, f, d]);
        const x = t.random([n, d]);
        const [expected, out] = [t.random([n, f]), t.random([n, f])];
        // As vectors they do not wait.
        const copies = [param, m, v].map((from) => t.of("f32", [from.size], engine.read(from))) as [Tensor, Tensor, Tensor];
        engine.adamW(copies[0], view(grad, [grad.size]), copies[1], copies[2], options);
        engine.groupedMatmul("nt", expected, x, view(copies[0], param.shape), offsets, { precision });
        engine.adamW(param, grad, m, v, options);
        const alone = vi.spyOn(addon, "adamW");
        engine.groupedMatmul("nt", out, x, param, offsets, { precision });
        expect(alone).not.toHaveBeenCalled();
        alone.mockRestore();
        if (n > 0) expect(bits(engine, out)).toEqual(bits(engine, expected));
        expect(bits(engine, param, m, v)).toEqual(bits(engine, ...copies));
        engine.threads = 2;
      }
    }
  });

  it("are made once, and before anything else reads or writes one of their tensors", () => {
    const ways: Record<string, (of: Quartet) => unknown> = {
      "read a part": ([param]) => bits(engine, view(param, [6], 54)),
      "overwrite the gradient": ([, grad]) => engine.fill(grad, 9),
      "overwrite a moment from a list of ops": ([, , m]) => engine.together(() => engine.fill(m, 0)),
      "sum the other's squares": ([, , , v]) => engine.sumSquares(v),
      "update again": (of) => engine.adamW(...of, { ...options, step: 4 }),
      "multiply by a list of matrices": ([param]) => {
        using t = new TestTensors(engine, 8);
        const out = t.random([4, 5]);
        engine.groupedMatmul("nt", out, t.random([4, 6]), [0, 1].map((e) => view(param, [5, 6], e * 30)), t.ints([0, 2, 4]));
        return bits(engine, out);
      },
    };
    for (const [name, act] of Object.entries(ways)) {
      using t = new TestTensors(engine, 6);
      const { late, soon } = updated(t);
      expect(act(late), name).toEqual(act(soon));
      expect(bits(engine, ...late), name).toEqual(bits(engine, ...soon));
    }
  });

  it("are made although the product that was to make them fails, or what stands before it in a list of ops", () => {
    const ways: Record<string, (product: (offsets: readonly number[]) => void) => void> = {
      "the product": (product) => product([0, 9, 4]),
      "the product, in a list": (product) => engine.together(() => product([0, 9, 4])),
      "an op before it": (product) =>
        engine.together(() => {
          engine.fill(new Tensor("f32", [8], 64), 0);
          product([0, 2, 4]);
        }),
      "the caller": (product) =>
        engine.together(() => {
          product([0, 2, 4]);
          throw new RangeError("of the caller");
        }),
    };
    for (const [name, act] of Object.entries(ways)) {
      using t = new TestTensors(engine, 6);
      const { late, soon } = updated(t);
      const [out, x] = [t.random([4, 5]), t.random([4, 6])];
      const offsets = t.ints([0, 0, 0]);
      expect(() => act((values) => {
        engine.write(offsets, values);
        engine.groupedMatmul("nt", out, x, late[0], offsets);
      }), name).toThrow();
      expect(bits(engine, ...late), name).toEqual(bits(engine, ...soon));
    }
  });

  it("are made before the memory of a moment is given back", () => {
    using t = new TestTensors(engine, 7);
    using moments = new TestTensors(engine, 7);
    const shape = [2, 3, 4];
    const param = t.random(shape);
    const before = bits(engine, param);
    engine.adamW(param, t.random(shape), positive(moments, shape), positive(moments, shape), options);
    moments[Symbol.dispose]();
    expect(bits(engine, param)).not.toEqual(before);
  });
});
