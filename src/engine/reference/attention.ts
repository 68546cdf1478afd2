import { f16At } from "../../tensor/half.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { AttentionDims, AttentionExtras } from "../engine.js";
import { visibleKeys } from "../visible-keys.js";
import { type Floats, floats } from "./arrays.js";
import { storedBytes } from "./quantised.js";

/** Elements of keys or values, also of f16 ones. */
function keyValues(t: Tensor): Floats {
  if (t.dtype !== "f16") return floats(t);
  const bytes = storedBytes(t);
  return Float32Array.from({ length: t.size }, (_, i) => f16At(bytes, 2 * i));
}

/** One query of one head: where its elements begin, where those of key 0 and of its bias do, and the keys [first, end) that it sees. */
interface QueryRow {
  head: number;
  atLse: number;
  atQ: number;
  atOut: number;
  atK: number;
  atV: number;
  atBias: number;
  first: number;
  end: number;
}

function eachRow(dims: AttentionDims, bias: Tensor | undefined, visit: (row: QueryRow) => void): void {
  const { batch, queries, keys, keyStride, heads, kvHeads, headDim, valueDim = headDim, valueStride = kvHeads * valueDim } = dims;
  for (let b = 0; b < batch; b++) {
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const [atK, atV] = [(b * keyStride * kvHeads + kvHead) * headDim, b * keyStride * valueStride + kvHead * valueDim];
      const sheet = bias === undefined ? 0 : (bias.shape[0] === 1 ? 0 : b) * bias.shape[1] + (bias.shape[1] === 1 ? 0 : head);
      for (let i = 0; i < queries; i++) {
        const row = (b * queries + i) * heads + head;
        const place = { atLse: row, atQ: row * headDim, atOut: row * valueDim, atK, atV, atBias: (sheet * queries + i) * keys };
        visit({ head, ...place, ...visibleKeys(dims, i) });
      }
    }
  }
}

export function attention(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, dims: AttentionDims, { sinks, bias }: AttentionExtras = {}): void {
  const O = floats(out);
  const L = floats(lse);
  const V = keyValues(v);
  const sinks_H = sinks && floats(sinks);
  const { kvHeads, headDim, valueDim = headDim, valueStride = kvHeads * valueDim } = dims;
  const scores = new Float64Array(dims.keys);
  const mixed = new Float64Array(valueDim);
  const scoreOf = scorer(q, k, dims, bias);
  eachRow(dims, bias, (row) => {
    let max = sinks_H === undefined ? -Infinity : sinks_H[row.head];
    for (let j = row.first; j < row.end; j++) {
      scores[j] = scoreOf(row, j);
      max = Math.max(max, scores[j]);
    }
    if (max === -Infinity) max = 0;
    let sum = sinks_H === undefined ? 0 : Math.exp(sinks_H[row.head] - max);
    mixed.fill(0);
    for (let j = row.first; j < row.end; j++) {
      const weight = Math.exp(scores[j] - max);
      sum += weight;
      for (let d = 0; d < valueDim; d++) mixed[d] += weight * V[row.atV + j * valueStride + d];
    }
    for (let d = 0; d < valueDim; d++) O[row.atOut + d] = sum > 0 ? mixed[d] / sum : 0;
    L[row.atLse] = max + Math.log(sum);
  });
}

/** The score of key `j`: scale * q.k + bias. */
function scorer(q: Tensor, k: Tensor, { kvHeads, headDim, scale }: AttentionDims, bias: Tensor | undefined): (row: QueryRow, j: number) => number {
  const Q = floats(q);
  const K = keyValues(k);
  const B: Floats | undefined = bias && floats(bias);
  return ({ atQ, atK, atBias }, j) => {
    let dot = 0;
    for (let d = 0; d < headDim; d++) dot += Q[atQ + d] * K[atK + j * kvHeads * headDim + d];
    return dot * scale + (B === undefined ? 0 : B[atBias + j]);
  };
}

/** With p the weights: dv = p dout; ds = p * (dout v - dout out); dq and dk follow from ds * scale. A sink weighs nothing in out: v = 0. */
export function attentionBackward(
  dq: Tensor, dk: Tensor, dv: Tensor, dsinks: Tensor | undefined,
  dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dims: AttentionDims, { sinks, bias }: AttentionExtras = {},
): void {
  const DQ = floats(dq);
  const DK = new Float64Array(dk.size);
  const DV = new Float64Array(dv.size);
  const { heads, kvHeads, headDim, valueDim = headDim, scale } = dims;
  const dsinks_H = new Float64Array(heads);
  const G = floats(dout);
  const Q = floats(q);
  const K = floats(k);
  const V = floats(v);
  const O = floats(out);
  const L = floats(lse);
  const sinks_H = sinks && floats(sinks);
  const dq_row = new Float64Array(headDim);
  const scoreOf = scorer(q, k, dims, bias);
  eachRow(dims, bias, (row) => {
    const { head, atQ, atOut } = row;
    let mean = 0;
    for (let d = 0; d < valueDim; d++) mean += G[atOut + d] * O[atOut + d];
    const logSum = Math.max(L[row.atLse], -Number.MAX_VALUE); // -Infinity where every key is masked
    dq_row.fill(0);
    for (let j = row.first; j < row.end; j++) {
      const atK = row.atK + j * kvHeads * headDim;
      const atV = row.atV + j * kvHeads * valueDim;
      const weight = Math.exp(scoreOf(row, j) - logSum);
      let dweight = 0;
      for (let d = 0; d < valueDim; d++) {
        dweight += G[atOut + d] * V[atV + d];
        DV[atV + d] += weight * G[atOut + d];
      }
      const dscore = weight * (dweight - mean) * scale;
      for (let d = 0; d < headDim; d++) {
        DK[atK + d] += dscore * Q[atQ + d];
        dq_row[d] += dscore * K[atK + d];
      }
    }
    if (sinks_H !== undefined) dsinks_H[head] -= Math.exp(sinks_H[head] - logSum) * mean;
    for (let d = 0; d < headDim; d++) DQ[atQ + d] = dq_row[d];
  });
  floats(dk).set(DK);
  floats(dv).set(DV);
  if (dsinks !== undefined) floats(dsinks).set(dsinks_H);
}
