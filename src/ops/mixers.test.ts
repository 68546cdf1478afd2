import { describe, expect, it } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import type { Tensor } from "../tensor/tensor.js";
import { causalConv, deltaDecays, lightningIndexer, linearAttention, selectiveScan } from "./index.js";

const engine = new ReferenceEngine();
const failure = (code: string) => expect.objectContaining({ code });

/** A tensor of 0.1, 0.2, ... */
function input(tape: Tape, shape: readonly number[], requiresGrad = false): Tensor {
  const t = tape.alloc(shape);
  engine.write(t, Array.from({ length: t.size }, (_, i) => (i + 1) / 10));
  t.requiresGrad = requiresGrad;
  return t;
}

const dims = { heads: 2, keyHeads: 1, keyDim: 2, valueDim: 3, scale: 1 };
const indexer = { batch: 1, queries: 4, keys: 4, keyStride: 4, heads: 2, headDim: 3, topK: 2 };

/** Every op on x of four rows, and the width of x and the shape of a state that it takes. */
const ops: Record<string, { width: number; state?: number[]; run: (tape: Tape, x: Tensor, sequences: { batch: number; state?: Tensor }) => Tensor }> = {
  causalConv: { width: 3, state: [2, 3], run: (t, x, s) => causalConv(t, x, input(t, [3, 3]), input(t, [3]), s) },
  linearAttention: { width: 10, state: [2, 2, 3], run: (t, x, s) => linearAttention(t, x, input(t, [2]), input(t, [4, 2]), dims, s) },
  deltaDecays: { width: 3, state: [3, 3], run: (t, x, s) => deltaDecays(t, x, input(t, [3]), input(t, [3]), 4, s) },
  selectiveScan: {
    width: 3, state: [2, 3],
    run: (t, x, s) => selectiveScan(t, x, { delta: input(t, [4, 3]), a: input(t, [3, 2]), b: input(t, [4, 2]), c: input(t, [4, 2]), d: input(t, [3]) }, s),
  },
  lightningIndexer: { width: 6, run: (t, x) => lightningIndexer(t, x, input(t, [4, 3]), input(t, [4, 2]), indexer) },
};

describe.each(Object.entries(ops))("%s", (_, { width, state, run }) => {
  it("runs, but refuses to be recorded for gradients", () => {
    using arena = new Arena(engine);
    const tape = new Tape(engine, arena, { recording: true });
    expect(engine.read(run(tape, input(tape, [4, width]), { batch: 1 })).every((v) => !Number.isNaN(v))).toBe(true);
    expect(() => run(tape, input(tape, [4, width], true), { batch: 1 })).toThrow(failure("ERR_SWITCHYARD_UNSUPPORTED"));
  });

  it("refuses an input of another width", () => {
    using arena = new Arena(engine);
    const tape = new Tape(engine, arena);
    expect(() => run(tape, input(tape, [4, width + 1]), { batch: 1 })).toThrow(failure("ERR_SWITCHYARD_SHAPE"));
  });

  it.skipIf(state === undefined)("starts from zeros, or from a state of the right shape", () => {
    using arena = new Arena(engine);
    const tape = new Tape(engine, arena);
    const x = input(tape, [4, width]);
    const zeros = input(tape, [2, ...state!]);
    engine.fill(zeros, 0);
    expect(engine.read(run(tape, x, { batch: 2, state: zeros }))).toEqual(engine.read(run(tape, x, { batch: 2 })));
    expect(engine.read(zeros).some((v) => v !== 0)).toBe(true);
    expect(() => run(tape, x, { batch: 1, state: zeros })).toThrow(failure("ERR_SWITCHYARD_SHAPE"));
    expect(() => run(tape, x, { batch: 3 })).toThrow(failure("ERR_SWITCHYARD_SHAPE"));
  });
});
