import type { Tensor } from "../../tensor/tensor.js";
import type { AdamWOptions } from "../engine.js";
import { floats } from "./arrays.js";

export function adamW(param: Tensor, grad: Tensor, m: Tensor, v: Tensor, options: AdamWOptions): void {
  const P = floats(param);
  const G = floats(grad);
  const M = floats(m);
  const V = floats(v);
  const { learningRate, beta1, beta2, eps, weightDecay, step, gradScale } = options;
  const stepSize = learningRate / (1 - beta1 ** step);
  const correction2 = Math.sqrt(1 - beta2 ** step);
  const decay = 1 - learningRate * weightDecay;
  for (let i = 0; i < P.length; i++) {
    const g = G[i] * gradScale;
    const first = beta1 * M[i] + (1 - beta1) * g;
    const second = beta2 * V[i] + (1 - beta2) * g * g;
    M[i] = first;
    V[i] = second;
    P[i] = P[i] * decay - (stepSize * first) / (Math.sqrt(second) / correction2 + eps);
  }
}

export function sumSquares(x: Tensor): number {
  const X = floats(x);
  let total = 0;
  for (let i = 0; i < X.length; i++) total += X[i] * X[i];
  return total;
}
