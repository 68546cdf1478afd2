import type { Tensor } from "../../tensor/tensor.js";
import type { AttentionDims, RopeDims } from "../engine.js";
import { floats, indices } from "./arrays.js";

export function rope(out: Tensor, x: Tensor, table: Tensor, positions: Tensor, dims: RopeDims): void {
  const O = floats(out);
  const X = floats(x);
  const cosSin = floats(table);
  const positions_T = indices("rope", positions, table.rows, 0);
  const { heads, headDim } = dims;
  const half = headDim / 2;
  const sign = dims.inverse === true ? -1 : 1;
  for (let t = 0; t < positions_T.length; t++) {
    const angle = positions_T[t] * headDim;
    for (let h = 0; h < heads; h++) {
      const at = (t * heads + h) * headDim;
      for (let j = 0; j < half; j++) {
        const cos = cosSin[angle + j];
        const sin = sign * cosSin[angle + half + j];
        const x0 = X[at + j];
        const x1 = X[at + half + j];
        O[at + j] = x0 * cos - x1 * sin;
        O[at + half + j] = x1 * cos + x0 * sin;
      }
    }
  }
}

/** Calls `visit` for each query row: its offset in q, the offset of its first key in k, and how many keys it sees. */
function eachRow(dims: AttentionDims, visit: (row: number, head: number, atQ: number, atK: number, seen: number) => void): void {
  const { batch, queries, keys, keyStride, heads, kvHeads, headDim } = dims;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor(h / (heads / kvHeads));
      const atK = (b * keyStride * kvHeads + kvHead) * headDim;
      for (let i = 0; i < queries; i++) {
        const row = b * queries + i;
        visit(row, h, (row * heads + h) * headDim, atK, keys - queries + i + 1);
      }
    }
  }
}

export function attention(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, dims: AttentionDims): void {
  const O = floats(out);
  const L = floats(lse);
  const Q = floats(q);
  const K = floats(k);
  const V = floats(v);
  const { heads, headDim, scale } = dims;
  const strideK = dims.kvHeads * headDim;
  const weights = new Float64Array(dims.keys);
  const mixed = new Float64Array(headDim);
  eachRow(dims, (row, h, atQ, atK, seen) => {
    let max = -Infinity;
    for (let j = 0; j < seen; j++) {
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += Q[atQ + d] * K[atK + j * strideK + d];
      weights[j] = dot * scale;
      max = Math.max(max, weights[j]);
    }
    let sum = 0;
    mixed.fill(0);
    for (let j = 0; j < seen; j++) {
      const weight = Math.exp(weights[j] - max);
      sum += weight;
      for (let d = 0; d < headDim; d++) mixed[d] += weight * V[atK + j * strideK + d];
    }
    for (let d = 0; d < headDim; d++) O[atQ + d] = mixed[d] / sum;
    L[row * heads + h] = max + Math.log(sum);
  });
}

/** With p the weights: dv = p dout; ds = p * (dout v - dout out); dq and dk follow from ds * scale. */
export function attentionBackward(
  dq: Tensor, dk: Tensor, dv: Tensor, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dims: AttentionDims,
): void {
  const DQ = floats(dq).fill(0);
  const DK = new Float64Array(dk.size);
  const DV = new Float64Array(dv.size);
  const G = floats(dout);
  const Q = floats(q);
  const K = floats(k);
  const V = floats(v);
  const O = floats(out);
  const L = floats(lse);
  const { heads, headDim, scale } = dims;
  const strideK = dims.kvHeads * headDim;
  const dq_row = new Float64Array(headDim);
  eachRow(dims, (row, h, atQ, atK, seen) => {
    let mean = 0;
    for (let d = 0; d < headDim; d++) mean += G[atQ + d] * O[atQ + d];
    dq_row.fill(0);
    for (let j = 0; j < seen; j++) {
      const at = atK + j * strideK;
      let dot = 0;
      let dweight = 0;
      for (let d = 0; d < headDim; d++) {
        dot += Q[atQ + d] * K[at + d];
        dweight += G[atQ + d] * V[at + d];
      }
      const weight = Math.exp(dot * scale - L[row * heads + h]);
      const dscore = weight * (dweight - mean) * scale;
      for (let d = 0; d < headDim; d++) {
        DV[at + d] += weight * G[atQ + d];
        DK[at + d] += dscore * Q[atQ + d];
        dq_row[d] += dscore * K[at + d];
      }
    }
    for (let d = 0; d < headDim; d++) DQ[atQ + d] = dq_row[d];
  });
  floats(dk).set(DK);
  floats(dv).set(DV);
}
