import type { Tensor } from "../../tensor/tensor.js";
import type { LinearAttentionDims, SelectiveScan } from "../mixer-ops.js";
import { type Floats, floats } from "./arrays.js";
import { unaryFns } from "./special.js";

export function causalConv(out: Tensor, state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | undefined): void {
  const O = floats(out);
  const S = floats(state);
  const X = floats(x);
  const W = floats(weight);
  const bias_C = bias && floats(bias);
  const [batch = 0, past = 0, C = 0] = state.shape;
  const length = x.rows / batch;
  const K = past + 1;
  for (let b = 0; b < batch; b++) {
    const at = (t: number, c: number): number => (t < 0 ? S[(b * past + past + t) * C + c] : X[(b * length + t) * C + c]);
    for (let t = 0; t < length; t++) {
      for (let c = 0; c < C; c++) {
        let sum = bias_C === undefined ? 0 : bias_C[c];
        for (let k = 0; k < K; k++) sum += W[c * K + k] * at(t - past + k, c);
        O[(b * length + t) * C + c] = sum;
      }
    }
    for (let j = 0; j < past; j++) for (let c = 0; c < C; c++) S[(b * past + j) * C + c] = at(length - past + j, c);
  }
}

/** Copies a query or key, with norm and scale. */
function prepare(to: Float64Array, X: Floats, at: number, normEps: number | undefined, scale: number): void {
  let squares = normEps ?? 0;
  for (let i = 0; i < to.length; i++) squares += X[at + i] * X[at + i];
  const factor = normEps === undefined ? scale : scale / Math.sqrt(squares);
  for (let i = 0; i < to.length; i++) to[i] = X[at + i] * factor;
}

export function linearAttention(out: Tensor, state: Tensor, qkv: Tensor, decay: Tensor, beta: Tensor | undefined, dims: LinearAttentionDims): void {
  const O = floats(out);
  const S = floats(state);
  const X = floats(qkv);
  const decay_TH = floats(decay);
  const beta_TH = beta && floats(beta);
  const { heads, keyHeads, keyDim, valueDim, scale, normEps } = dims;
  const [batch = 0] = state.shape;
  const length = out.rows / batch;
  const [query, key] = [new Float64Array(keyDim), new Float64Array(keyDim)];
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const atS = (b * heads + h) * keyDim * valueDim;
      const keyHead = Math.floor(h / (heads / keyHeads));
      for (let t = b * length; t < (b + 1) * length; t++) {
        const atQ = t * qkv.cols + keyHead * keyDim;
        prepare(query, X, atQ, normEps, scale);
        prepare(key, X, atQ + keyHeads * keyDim, normEps, 1);
        const atV = t * qkv.cols + 2 * keyHeads * keyDim + h * valueDim;
        const factor = decay_TH[(t * heads + h) % decay.size];
        for (let j = 0; j < valueDim; j++) {
          let value = X[atV + j];
          if (beta_TH !== undefined) {
            let known = 0;
            for (let i = 0; i < keyDim; i++) known += factor * S[atS + i * valueDim + j] * key[i];
            value = beta_TH[t * heads + h] * (value - known);
          }
          let sum = 0;
          for (let i = 0; i < keyDim; i++) {
            const s = factor * S[atS + i * valueDim + j] + key[i] * value;
            S[atS + i * valueDim + j] = s;
            sum += s * query[i];
          }
          O[(t * heads + h) * valueDim + j] = sum;
        }
      }
    }
  }
}

export function deltaDecays(out: Tensor, state: Tensor, step: Tensor, bias: Tensor, logRate: Tensor, chunk: number): void {
  const O = floats(out);
  const S = floats(state);
  const [step_TH, bias_H, logRate_H] = [floats(step), floats(bias), floats(logRate)];
  const [batch = 0, , H = 0] = state.shape;
  const length = step.rows / batch;
  for (let t = 0; t < step.rows; t++) {
    for (let h = 0; h < H; h++) {
      const [sum, rest, count] = [0, 1, 2].map((i) => (Math.floor(t / length) * 3 + i) * H + h) as [number, number, number];
      if (S[count] === chunk) S[sum] = S[rest] = S[count] = 0;
      const total = S[sum] + S[rest] + Math.fround(-Math.fround(Math.exp(logRate_H[h])) * unaryFns.softplus.value(step_TH[t * H + h] + bias_H[h]));
      const rounded = Math.fround(total);
      O[t * H + h] = Math.exp(rounded - S[sum]);
      S[sum] = rounded;
      S[rest] = Math.fround(total - rounded);
      S[count]++;
    }
  }
}

export function selectiveScan(out: Tensor, state: Tensor, x: Tensor, { delta, a, b, c, d }: SelectiveScan): void {
  const O = floats(out);
  const S = floats(state);
  const X = floats(x);
  const [delta_TC, a_CN, b_TN, c_TN, d_C] = [floats(delta), floats(a), floats(b), floats(c), floats(d)];
  const [batch = 0, N = 0, C = 0] = state.shape;
  const length = x.rows / batch;
  for (let t = 0; t < x.rows; t++) {
    for (let ch = 0; ch < C; ch++) {
      const input = X[t * C + ch];
      const step = delta_TC[t * C + ch];
      const sequence = Math.floor(t / length);
      let sum = d_C[ch] * input;
      for (let n = 0; n < N; n++) {
        const at = (sequence * N + n) * C + ch;
        const h = Math.exp(step * a_CN[ch * N + n]) * S[at] + step * input * b_TN[t * N + n];
        S[at] = h;
        sum += h * c_TN[t * N + n];
      }
      O[t * C + ch] = sum;
    }
  }
}
