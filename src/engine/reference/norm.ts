import type { Tensor } from "../../tensor/tensor.js";
import { type Floats, floats } from "./arrays.js";

export function rmsNorm(out: Tensor, x: Tensor, weight: Tensor | undefined, eps: number, offset = 0): void {
  const O = floats(out);
  const X = floats(x);
  const W = factors(x.cols, weight, offset);
  const D = x.cols;
  for (let at = 0; at < X.length; at += D) {
    const scale = 1 / Math.sqrt(meanSquare(X, at, D, 0) + eps);
    for (let d = 0; d < D; d++) O[at + d] = X[at + d] * scale * W[d];
  }
}

export function rmsNormBackward(
  dx: Tensor | undefined, dweight: Tensor | undefined,
  dout: Tensor, x: Tensor, weight: Tensor | undefined, eps: number, accumulate: { dx: boolean; dweight: boolean }, offset = 0,
): void {
  normBackward(false, dx, dweight, undefined, dout, x, factors(x.cols, weight, offset), eps, { ...accumulate, dbias: false });
}

/** weight + offset, or ones. */
function factors(D: number, weight: Tensor | undefined, offset: number): Float64Array {
  return weight === undefined ? new Float64Array(D).fill(1) : Float64Array.from(floats(weight), (w) => w + offset);
}

export function layerNorm(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): void {
  const O = floats(out);
  const X = floats(x);
  const W = floats(weight);
  const B = bias && floats(bias);
  const D = x.cols;
  for (let at = 0; at < X.length; at += D) {
    const mean = meanOf(X, at, D);
    const scale = 1 / Math.sqrt(meanSquare(X, at, D, mean) + eps);
    for (let d = 0; d < D; d++) O[at + d] = (X[at + d] - mean) * scale * W[d] + (B === undefined ? 0 : B[d]);
  }
}

export function layerNormBackward(
  dx: Tensor | undefined, dweight: Tensor | undefined, dbias: Tensor | undefined,
  dout: Tensor, x: Tensor, weight: Tensor, eps: number, accumulate: { dx: boolean; dweight: boolean; dbias: boolean },
): void {
  normBackward(true, dx, dweight, dbias, dout, x, floats(weight), eps, accumulate);
}

/**
 * With h = (x - mean) * scale and g = dout * W: dx = scale * (g - mean(g) - h * mean(g * h)), where
 * the RMS norm has neither mean; dweight = sum of dout * h over rows, dbias = sum of dout.
 */
function normBackward(
  centred: boolean, dx: Tensor | undefined, dweight: Tensor | undefined, dbias: Tensor | undefined,
  dout: Tensor, x: Tensor, W: Floats, eps: number, accumulate: { dx: boolean; dweight: boolean; dbias: boolean },
): void {
  const X = floats(x);
  const G = floats(dout);
  const D = x.cols;
  const DX = dx && floats(dx);
  const dweight_D = new Float64Array(D);
  const dbias_D = new Float64Array(D);
  for (let at = 0; at < X.length; at += D) {
    const mean = centred ? meanOf(X, at, D) : 0;
    const scale = 1 / Math.sqrt(meanSquare(X, at, D, mean) + eps);
    let sumG = 0;
    let sumGH = 0;
    for (let d = 0; d < D; d++) {
      const h = (X[at + d] - mean) * scale;
      const g = G[at + d] * W[d];
      dweight_D[d] += G[at + d] * h;
      dbias_D[d] += G[at + d];
      sumG += g;
      sumGH += g * h;
    }
    if (DX === undefined) continue;
    const meanG = centred ? sumG / D : 0;
    for (let d = 0; d < D; d++) {
      const h = (X[at + d] - mean) * scale;
      const value = scale * (G[at + d] * W[d] - meanG - (h * sumGH) / D);
      DX[at + d] = accumulate.dx ? DX[at + d] + value : value;
    }
  }
  if (dweight !== undefined) give(dweight, dweight_D, accumulate.dweight);
  if (dbias !== undefined) give(dbias, dbias_D, accumulate.dbias);
}

function give(out: Tensor, values: Float64Array, accumulate: boolean): void {
  const O = floats(out);
  for (let i = 0; i < O.length; i++) O[i] = accumulate ? O[i] + values[i] : values[i];
}

function meanOf(x: Float32Array | Float64Array, at: number, D: number): number {
  let sum = 0;
  for (let d = 0; d < D; d++) sum += x[at + d];
  return sum / D;
}

function meanSquare(x: Float32Array | Float64Array, at: number, D: number, mean: number): number {
  let sum = 0;
  for (let d = 0; d < D; d++) sum += (x[at + d] - mean) * (x[at + d] - mean);
  return sum / D;
}
