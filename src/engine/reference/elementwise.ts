import type { Tensor } from "../../tensor/tensor.js";
import { spreadSteps } from "../broadcast.js";
import type { BinaryFn, UnaryFn } from "../engine.js";
import { floats } from "./arrays.js";
import { unaryFns } from "./special.js";
import { expSum } from "./transformer.js";

export function unary(fn: UnaryFn, out: Tensor, x: Tensor): void {
  const O = floats(out);
  const X = floats(x);
  const { value } = unaryFns[fn];
  for (let i = 0; i < X.length; i++) O[i] = value(X[i]);
}

export function unaryBackward(fn: UnaryFn, dx: Tensor, dout: Tensor, x: Tensor, accumulate = false): void {
  const DX = floats(dx);
  const G = floats(dout);
  const X = floats(x);
  const { slope } = unaryFns[fn];
  for (let i = 0; i < X.length; i++) DX[i] = (accumulate ? DX[i] : 0) + G[i] * slope(X[i]);
}

const binaryFns: Readonly<Record<BinaryFn, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
};

export function binary(fn: BinaryFn, out: Tensor, a: Tensor, b: Tensor): void {
  const O = floats(out);
  const A = floats(a);
  const B = floats(b);
  const step = spreadSteps(a, b);
  const apply = binaryFns[fn];
  for (let row = 0, i = 0; row < a.rows; row++) {
    for (let column = 0; column < a.cols; column++, i++) O[i] = apply(A[i], B[row * step.row + column * step.column]);
  }
}

export function scale(out: Tensor, x: Tensor, factor: number, accumulate = false): void {
  const O = floats(out);
  const X = floats(x);
  for (let i = 0; i < X.length; i++) O[i] = accumulate ? O[i] + factor * X[i] : factor * X[i];
}

export function sum(out: Tensor, x: Tensor, over: "rows" | "columns" | "all", accumulate = false): void {
  const O = floats(out);
  const X = floats(x);
  const sums = new Float64Array(O.length);
  for (let row = 0, i = 0; row < x.rows; row++) {
    for (let column = 0; column < x.cols; column++, i++) {
      const at = over === "rows" ? row : over === "columns" ? column : 0;
      sums[at] += X[i];
    }
  }
  for (let i = 0; i < O.length; i++) O[i] = accumulate ? O[i] + sums[i] : sums[i];
}

export function softmax(out: Tensor, x: Tensor): void {
  const O = floats(out);
  const X = floats(x);
  for (let at = 0; at < X.length; at += x.cols) {
    const exps = expSum(X, at, x.cols);
    for (let i = at; i < at + x.cols; i++) O[i] = Math.exp(X[i] - exps.max) / exps.sum;
  }
}

export function softmaxBackward(dx: Tensor, dout: Tensor, out: Tensor, accumulate = false): void {
  const DX = floats(dx);
  const G = floats(dout);
  const P = floats(out);
  for (let at = 0; at < P.length; at += out.cols) {
    let mean = 0;
    for (let i = at; i < at + out.cols; i++) mean += G[i] * P[i];
    for (let i = at; i < at + out.cols; i++) DX[i] = (accumulate ? DX[i] : 0) + P[i] * (G[i] - mean);
  }
}

export function logSumExp(out: Tensor, x: Tensor): void {
  const O = floats(out);
  const X = floats(x);
  for (let row = 0; row < x.rows; row++) {
    const exps = expSum(X, row * x.cols, x.cols);
    O[row] = exps.max + Math.log(exps.sum);
  }
}

export function logSumExpBackward(dx: Tensor, dout: Tensor, x: Tensor, accumulate = false): void {
  const DX = floats(dx);
  const G = floats(dout);
  const X = floats(x);
  for (let row = 0; row < x.rows; row++) {
    const at = row * x.cols;
    const exps = expSum(X, at, x.cols);
    for (let i = at; i < at + x.cols; i++) DX[i] = (accumulate ? DX[i] : 0) + (G[row] * Math.exp(X[i] - exps.max)) / exps.sum;
  }
}
