import { isStored } from "../../tensor/dtype.js";
import type { Tensor } from "../../tensor/tensor.js";
import { floats, indices } from "./arrays.js";
import { decodeRow, storedBytes } from "./quantised.js";

export function gatherRows(out: Tensor, table: Tensor, rows: Tensor): void {
  const O = floats(out);
  const { dtype, cols: D } = table;
  const rows_M = indices("gatherRows", rows, table.rows);
  for (let m = 0; m < rows_M.length; m++) {
    const row = rows_M[m];
    if (row < 0) O.fill(0, m * D, (m + 1) * D);
    else if (isStored(dtype)) decodeRow(dtype, storedBytes(table), row, D, O, m * D);
    else O.set(floats(table).subarray(row * D, (row + 1) * D), m * D);
  }
}

export function scatterAddRows(dtable: Tensor, dout: Tensor, rows: Tensor): void {
  const T = floats(dtable);
  const G = floats(dout);
  const rows_M = indices("scatterAddRows", rows, dtable.rows);
  const D = dtable.cols;
  for (let m = 0; m < rows_M.length; m++) {
    const row = rows_M[m];
    if (row < 0) continue;
    for (let d = 0; d < D; d++) T[row * D + d] += G[m * D + d];
  }
}

/** Largest element of a row, and the sum of exp(x - max): softmax and log-sum-exp without overflow. */
export function expSum(x: Float32Array | Float64Array, at: number, cols: number): { max: number; sum: number } {
  let max = -Infinity;
  for (let i = at; i < at + cols; i++) if (x[i] > max) max = x[i];
  let sum = 0;
  for (let i = at; i < at + cols; i++) sum += Math.exp(x[i] - max);
  return { max, sum };
}

export function crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor): void {
  const L = floats(losses);
  const X = floats(logits);
  const V = logits.cols;
  const targets_T = indices("crossEntropy", targets, V);
  for (let t = 0; t < targets_T.length; t++) {
    const target = targets_T[t];
    if (target < 0) {
      L[t] = 0;
      continue;
    }
    const { max, sum } = expSum(X, t * V, V);
    L[t] = Math.log(sum) + max - X[t * V + target];
  }
}

export function crossEntropyBackward(dlogits: Tensor, dlosses: Tensor, logits: Tensor, targets: Tensor): void {
  const DX = floats(dlogits);
  const G = floats(dlosses);
  const X = floats(logits);
  const V = logits.cols;
  const targets_T = indices("crossEntropyBackward", targets, V);
  for (let t = 0; t < targets_T.length; t++) {
    const target = targets_T[t];
    const at = t * V;
    if (target < 0) {
      DX.fill(0, at, at + V);
      continue;
    }
    const { max, sum } = expSum(X, at, V);
    for (let v = 0; v < V; v++) DX[at + v] = G[t] * (Math.exp(X[at + v] - max) / sum - (v === target ? 1 : 0));
  }
}
