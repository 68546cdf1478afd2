import type { Tensor } from "../../tensor/tensor.js";
import type { GluOptions } from "../engine.js";
import { floats, groupOffsets, indices } from "./arrays.js";
import { activations } from "./special.js";

function gluRows(op: string, rows: number, { offsets }: GluOptions): number {
  return offsets === undefined ? rows : (groupOffsets(op, offsets, rows).at(-1) ?? 0);
}

export function glu(out: Tensor, x: Tensor, options: GluOptions): void {
  const O = floats(out);
  const X = floats(x);
  const scale_N = options.rowScale && floats(options.rowScale);
  const { value } = activations[options.activation];
  const F = out.cols;
  const rows = gluRows("glu", out.rows, options);
  for (let n = 0; n < rows; n++) {
    const scale = scale_N === undefined ? 1 : scale_N[n];
    const at = n * x.cols;
    for (let f = 0; f < F; f++) O[n * F + f] = value(X[at + f]) * (options.gated ? X[at + F + f] : 1) * scale;
  }
}

export function gluBackward(dx: Tensor, drowScale: Tensor | undefined, dout: Tensor, x: Tensor, options: GluOptions): void {
  const DX = floats(dx);
  const G = floats(dout);
  const X = floats(x);
  const scale_N = options.rowScale && floats(options.rowScale);
  const dscale_N = drowScale && floats(drowScale);
  const { value, slope } = activations[options.activation];
  const F = dout.cols;
  const rows = gluRows("gluBackward", dout.rows, options);
  for (let n = 0; n < rows; n++) {
    const scale = scale_N === undefined ? 1 : scale_N[n];
    const at = n * x.cols;
    let dscale = 0;
    for (let f = 0; f < F; f++) {
      const gate = X[at + f];
      const up = options.gated ? X[at + F + f] : 1;
      const act = value(gate);
      const g = G[n * F + f];
      dscale += g * act * up;
      DX[at + f] = g * scale * up * slope(gate);
      if (options.gated) DX[at + F + f] = g * scale * act;
    }
    if (dscale_N !== undefined) dscale_N[n] = dscale;
  }
}

export function gatherRows(out: Tensor, table: Tensor, rows: Tensor): void {
  const O = floats(out);
  const T = floats(table);
  const rows_M = indices("gatherRows", rows, table.rows);
  const D = table.cols;
  for (let m = 0; m < rows_M.length; m++) {
    const row = rows_M[m];
    if (row < 0) O.fill(0, m * D, (m + 1) * D);
    else O.set(T.subarray(row * D, (row + 1) * D), m * D);
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
