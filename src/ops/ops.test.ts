import { describe, expect, it } from "vitest";
import { gradcheck, type GradcheckInput } from "../../test/gradcheck.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { SwitchyardError } from "../errors.js";
import { sizeOf, type Tensor } from "../tensor/tensor.js";
import {
  add, attention, binary, crossEntropy, dropout, expertsIn, expertsOut, gatherColumns, gatherRows, glu, layerNorm, linear, logSumExp,
  matmul, mean, mul, reshape, rmsNorm, rope, type RowGroups, scale, scatterColumns, softmax, sum, topK, unary,
} from "./index.js";
import { rotaryTable } from "../model/rope.js";

const engine = new ReferenceEngine({ float: "f64" });

/** Reproducible values around zero, none of them near it, all different. */
function input(shape: readonly number[], shift = 0, seed = 1): GradcheckInput {
  const values = Array.from({ length: sizeOf(shape) }, (_, i) => shift + Math.sin(seed * 12.9898 + (i + 1) * 78.233) * 1.3);
  return { shape, values: values.map((v) => (Math.abs(v) < 0.05 ? v + 0.1 : v)) };
}

const ints = (tape: Tape, shape: readonly number[], values: readonly number[]) => tape.constant(shape, values, "i32");

/** Six rows of four tokens over three experts, the second of them idle, one slot dropped. */
function groups(tape: Tape): RowGroups {
  const plan = { offsets: tape.alloc([4], "i32"), tokens: tape.alloc([7], "i32"), positions: tape.alloc([4, 2], "i32") };
  engine.sortByExpert(plan.offsets, tape.alloc([7], "i32"), plan.tokens, plan.positions, ints(tape, [4, 2], [0, 2, 2, 0, 0, -1, 2, 0]));
  return plan;
}

const attentionDims = { batch: 2, queries: 3, keys: 3, keyStride: 3, heads: 4, kvHeads: 2, headDim: 2, scale: 0.7 };

const cases: Record<string, [GradcheckInput[], (tape: Tape, x: Tensor[]) => Tensor]> = {
  linear: [[input([3, 4]), input([5, 4], 0, 2), input([5], 0, 3)], (t, [x, w, b]) => linear(t, x!, w!, b)],
  matmul: [[input([3, 4]), input([4, 5], 0, 2)], (t, [a, b]) => matmul(t, a!, b!)],
  scatterColumns: [[input([3, 2])], (t, [x]) => scatterColumns(t, x!, ints(t, [3, 2], [1, 3, 0, -1, 2, 1]), 4)],
  expertsIn: [[input([4, 3]), input([3, 5, 3], 0, 2)], (t, [x, w]) => expertsIn(t, x!, w!, groups(t))],
  expertsOut: [[input([7, 5]), input([3, 3, 5], 0, 2)], (t, [h, w]) => expertsOut(t, h!, w!, groups(t))],
  attention: [[input([6, 8]), input([6, 4], 0, 2), input([6, 4], 0, 3)], (t, [q, k, v]) => attention(t, q!, k!, v!, attentionDims)],
  "attention with a window and sinks": [
    [input([6, 8]), input([6, 4], 0, 2), input([6, 6], 0, 3), input([4], 0, 4)],
    (t, [q, k, v, sinks]) => attention(t, q!, k!, v!, { ...attentionDims, valueDim: 3, window: 2 }, { sinks }),
  ],
  "attention in chunks": [[input([6, 8]), input([6, 4], 0, 2), input([6, 4], 0, 3)], (t, [q, k, v]) => attention(t, q!, k!, v!, { ...attentionDims, chunk: 2 })],
  "attention to every key, biased": [
    [input([6, 8]), input([4, 4], 0, 2), input([4, 4], 0, 3)],
    (t, [q, k, v]) => {
      const bias = t.constant([1, 4, 3, 2], input([24], 0, 4).values.map((b, i) => (i % 5 === 0 ? -Infinity : b)));
      return attention(t, q!, k!, v!, { ...attentionDims, keys: 2, keyStride: 2, causal: false }, { bias });
    },
  ],
  "rmsNorm with an offset": [[input([3, 4]), input([4], 0, 2)], (t, [x, w]) => rmsNorm(t, x!, w!, 1e-5, { offset: 1 })],
  "rmsNorm without a weight": [[input([3, 4])], (t, [x]) => rmsNorm(t, x!, undefined, 1e-5, { size: 2 })],
  "layerNorm without a bias": [[input([3, 4]), input([4], 1, 2)], (t, [x, w]) => layerNorm(t, x!, w!, undefined, 1e-5)],
  rmsNorm: [[input([3, 4]), input([4], 1, 2)], (t, [x, w]) => rmsNorm(t, x!, w!, 1e-5)],
  "rmsNorm per head": [[input([3, 4]), input([2], 1, 2)], (t, [x, w]) => rmsNorm(t, x!, w!, 1e-5)],
  layerNorm: [[input([3, 4]), input([4], 1, 2), input([4], 0, 3)], (t, [x, w, b]) => layerNorm(t, x!, w!, b!, 1e-5)],
  rope: [
    [input([3, 8])],
    (t, [x]) => rope(t, x!, { table: t.constant([9, 4], rotaryTable({ theta: 100, rotary: 4, interleaved: false }, 9)), positions: ints(t, [3], [0, 5, 8]) }, { heads: 2, headDim: 4 }),
  ],
  "rope of pairs in a slice": [
    [input([3, 12])],
    (t, [x]) => rope(t, x!, { table: t.constant([9, 4], rotaryTable({ theta: 100, rotary: 4, interleaved: false }, 9)), positions: ints(t, [3], [0, 5, 8]) }, { heads: 2, headDim: 6, first: 1, rotary: 4, interleaved: true }),
  ],
  gatherRows: [[input([4, 3])], (t, [x]) => gatherRows(t, x!, ints(t, [5], [2, 0, 2, -1, 3]))],
  gatherColumns: [[input([3, 4])], (t, [x]) => gatherColumns(t, x!, ints(t, [3, 2], [1, 3, 0, -1, 2, 1]))],
  crossEntropy: [[input([3, 5])], (t, [x]) => crossEntropy(t, scale(t, x!, 1), ints(t, [3], [4, -1, 0]))],
  softmax: [[input([3, 5])], (t, [x]) => softmax(t, x!)],
  logSumExp: [[input([3, 5])], (t, [x]) => logSumExp(t, x!)],
  "sum rows": [[input([3, 5])], (t, [x]) => sum(t, x!, "rows")],
  "sum columns": [[input([3, 5])], (t, [x]) => sum(t, x!, "columns")],
  mean: [[input([3, 5])], (t, [x]) => mean(t, x!)],
  reshape: [[input([3, 4])], (t, [x]) => add(t, reshape(t, x!, [12]), reshape(t, scale(t, x!, 2), [12]))],
  dropout: [[input([4, 5])], (t, [x]) => dropout(t, x!, 0.4)],
  "sums whose terms are used again": [
    [input([2, 3])],
    (t, [x]) => {
      const [p, q] = [scale(t, x!, 2), scale(t, x!, 3)];
      const y = add(t, p, q);
      return add(t, add(t, mul(t, y, p), binary(t, "sub", q, y)), add(t, p, unary(t, "square", p)));
    },
  ],
  "a tensor used three times": [[input([2, 3])], (t, [x]) => mul(t, add(t, x!, x!), x!)],
};
for (const activation of ["silu", "gelu", "gelu-tanh", "quick-gelu", "relu", "relu2"] as const) {
  cases[`glu ${activation} gated`] = [[input([3, 8]), input([3], 0, 2)], (t, [x, s]) => glu(t, x!, { activation, gated: true, rowScale: s })];
  cases[`glu ${activation}`] = [[input([3, 4])], (t, [x]) => glu(t, x!, { activation, gated: false })];
}
for (const gated of [true, false]) {
  cases[`glu biased, clamped, scaled first, gated=${gated}`] = [
    [input([3, 8]), input([3], 0, 2)],
    (t, [x, rowScale]) => {
      const bias = t.constant([2, 8], input([16], 0, 3).values);
      return glu(t, x!, { activation: "quick-gelu", gated, rowScale, rowScaleOn: "input", limit: 0.4, upOffset: 1, bias, offsets: ints(t, [3], [0, 2, 3]) });
    },
  ];
}
for (const fn of ["neg", "exp", "square", "sigmoid", "tanh", "softplus", "relu", "normal-cdf"] as const) cases[`unary ${fn}`] = [[input([2, 3])], (t, [x]) => unary(t, fn, x!)];
for (const fn of ["log", "sqrt"] as const) cases[`unary ${fn}`] = [[input([2, 3], 2)], (t, [x]) => unary(t, fn, x!)];
for (const fn of ["add", "sub", "mul", "div"] as const) {
  for (const shape of [[3, 4], [1], [4], [3, 1]]) cases[`${fn} [3,4] with [${shape.join(",")}]`] = [[input([3, 4]), input(shape, 2, 5)], (t, [a, b]) => binary(t, fn, a!, b!)];
}

describe("every op's backward pass equals central differences (f64)", () => {
  it.each(Object.entries(cases))("%s", (_, [inputs, f]) => {
    expect(gradcheck(engine, f, inputs, { tape: { training: true } })).toEqual([]);
  });

  it.each(Object.entries(cases))("%s, used twice: its gradients add to what is there", (_, [inputs, f]) => {
    expect(gradcheck(engine, (tape, x) => add(tape, f(tape, x), f(tape, x)), inputs, { tape: { training: true } })).toEqual([]);
  });

  it("gradcheck notices a wrong gradient", () => {
    const wrong = (tape: Tape, [x]: Tensor[]) => {
      const y = tape.alloc(x!.shape);
      engine.scale(y, x!, 2);
      tape.record([y], [x], () => tape.into(x, (dx) => engine.scale(dx, y.grad as Tensor, 3)));
      return y;
    };
    expect(gradcheck(engine, wrong, [input([2])])).toHaveLength(2);
  });
});

describe("tape", () => {
  const tapeOf = (options = {}) => new Tape(engine, new Arena(engine, 2 ** 20), options);

  it("keeps nothing when it does not record", () => {
    const tape = tapeOf();
    const x = tape.constant([2], [1, 2]);
    x.requiresGrad = true;
    expect(() => tape.backward(mul(tape, x, x))).toThrow(/recording/);
  });

  it("adds up gradients of several passes until they are cleared", () => {
    const arena = new Arena(engine, 2 ** 20);
    const x = arena.alloc("f64", [1]);
    engine.write(x, [3]);
    x.requiresGrad = true;
    x.grad = arena.alloc("f64", [1]);
    for (let i = 0; i < 2; i++) {
      const tape = tapeOf({ recording: true });
      tape.backward(mul(tape, x, x), 0.5);
    }
    expect(engine.read(x.grad)[0]).toBe(6);
    x.gradWritten = false;
    const tape = tapeOf({ recording: true });
    tape.backward(mul(tape, x, x));
    expect(engine.read(x.grad)[0]).toBe(6);
  });

  it("draws different seeds in one pass and the same ones again for the same tape seed", () => {
    const draw = (seed: number) => { const t = tapeOf({ seed }); return [t.nextSeed(), t.nextSeed()]; };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)[0]).not.toBe(draw(1)[1]);
    expect(draw(1)).not.toEqual(draw(2));
  });
});

it.each([[undefined, 6], [2, 5]])("attention of a window of %s counts the operations of %d pairs per sequence and head, and twice as many backward", (window, pairs) => {
  const tape = new Tape(engine, new Arena(engine, 2 ** 20), { recording: true });
  const [q, k, v] = [[6, 8], [6, 4], [6, 6]].map((shape) => tape.constant(shape, input(shape).values)) as [Tensor, Tensor, Tensor];
  q.requiresGrad = true;
  const y = attention(tape, q, k, v, { ...attentionDims, valueDim: 3, window });
  const forward = 2 * (2 + 3) * pairs * 2 * 4; // of 2 sequences and 4 heads of 2 elements, their values of 3
  expect(tape.flops).toBe(forward);
  tape.backward(y);
  expect(tape.flops).toBe(3 * forward);
});

it("biases that require a gradient are refused while recording", () => {
  const tape = new Tape(engine, new Arena(engine, 2 ** 20), { recording: true });
  const bias = (...shape: number[]) => Object.assign(tape.alloc(shape), { requiresGrad: true });
  const t = (...shape: number[]) => tape.alloc(shape);
  expect(() => attention(tape, t(6, 8), t(6, 4), t(6, 4), attentionDims, { bias: bias(1, 1, 3, 3) })).toThrow(/attention: a bias gets no gradient/);
  expect(() => glu(tape, t(2, 4), { activation: "silu", gated: true, bias: bias(4) })).toThrow(/glu: a bias gets no gradient/);
});

describe("shape errors name the operation, what was expected and what was given", () => {
  const tape = new Tape(engine, new Arena(engine, 2 ** 20));
  const t = (...shape: number[]) => tape.alloc(shape);
  const i32 = (...shape: number[]) => tape.alloc(shape, "i32");
  it.each<[string, () => unknown, RegExp]>([
    ["linear", () => linear(tape, t(2, 3), t(4, 5)), /linear: f64\[2, 3\].*must be 5/],
    ["linear bias", () => linear(tape, t(2, 3), t(4, 3), t(5)), /linear: expected bias of shape \[4\]/],
    ["attention", () => attention(tape, t(6, 8), t(6, 4), t(6, 5), attentionDims), /attention: expected v/],
    ["attention window", () => attention(tape, t(6, 8), t(6, 4), t(6, 4), { ...attentionDims, window: 0 }), /attention: expected window to be a positive number/],
    ["attention chunk", () => attention(tape, t(6, 8), t(6, 4), t(6, 4), { ...attentionDims, causal: false, chunk: 2 }), /causal attention only, got 2 and causal: false/],
    ["attention bias", () => attention(tape, t(6, 8), t(6, 4), t(6, 4), attentionDims, { bias: t(2, 2, 3, 3) }), /expected bias of shape \[1 or 2, 1 or 4, 3, 3\]/],
    ["attention sinks", () => attention(tape, t(6, 8), t(6, 4), t(6, 4), attentionDims, { sinks: t(2) }), /expected sinks of shape \[4\]/],
    ["rope", () => rope(tape, t(2, 8), { table: t(9, 4), positions: i32(2) }, { heads: 2, headDim: 4, first: 2, rotary: 4 }), /rope: .*elements \[2, 6\)/],
    ["rmsNorm", () => rmsNorm(tape, t(2, 8), t(4), 1e-5, { size: 2 }), /rmsNorm: .*groups of 2/],
    ["glu bias", () => glu(tape, t(2, 4), { activation: "silu", gated: true, bias: t(2, 4) }), /glu: expected a bias of 1 x 4 elements/],
    ["glu", () => glu(tape, t(2, 3), { activation: "silu", gated: true }), /glu: .*even/],
    ["binary", () => binary(tape, "add", t(2, 3), t(5)), /cannot be spread/],
    ["topK", () => topK(tape, t(2, 3), 4), /topK: expected k between 1 and the number of experts, 3, got 4/],
    ["crossEntropy", () => crossEntropy(tape, t(2, 3), i32(3)), /crossEntropy: expected one i32 target per row/],
    ["reshape", () => reshape(tape, t(2, 3), [4]), /reshape/],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(SwitchyardError);
    expect(call).toThrow(message);
  });
});
