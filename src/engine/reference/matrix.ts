import { check } from "../../errors.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { GroupedOptions, MatmulForm, MatmulOptions } from "../engine.js";
import { type Floats, floats, groupOffsets, indices, scratch } from "./arrays.js";

export function matmul(form: MatmulForm, out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
  const bf16 = options.precision === "bf16";
  const A = floats(a);
  const B = floats(b);
  const M = out.rows;
  const N = out.cols;
  const K = form === "tn" ? a.rows : a.cols;
  const a_MK = form === "tn" ? transposed(A, K, M, bf16) : rounded(A, bf16);
  const b_NK = form === "nt" ? rounded(B, bf16) : transposed(B, K, N, bf16);
  dotRows(floats(out), a_MK, b_NK, M, N, K, options.accumulate === true);
}

export function groupedMatmul(form: MatmulForm, out: Tensor, a: Tensor, b: Tensor, offsets: Tensor, options: GroupedOptions = {}): void {
  const bf16 = options.precision === "bf16";
  const accumulate = options.accumulate === true;
  const O = floats(out);
  const A = floats(a);
  const B = floats(b);
  const rowsA = options.rowsA && indices("groupedMatmul", options.rowsA, a.rows);
  const rowsB = options.rowsB && indices("groupedMatmul", options.rowsB, b.rows);
  const offsets_E = groupOffsets("groupedMatmul", offsets, rowsA?.length ?? a.rows);
  const widthA = a.cols;
  const widthB = b.cols;
  for (let e = 0; e + 1 < offsets_E.length; e++) {
    const from = offsets_E[e];
    const to = offsets_E[e + 1];
    const n = to - from;
    if (form === "tn") {
      const size = widthA * widthB;
      const out_FD = O.subarray(e * size, (e + 1) * size);
      const a_FN = transposed(gathered(A, widthA, from, to, rowsA), n, widthA, bf16);
      const b_DN = transposed(gathered(B, widthB, from, to, rowsB), n, widthB, bf16);
      dotRows(out_FD, a_FN, b_DN, widthA, widthB, n, accumulate);
      continue;
    }
    if (n === 0) continue;
    const size = B.length / (offsets_E.length - 1);
    const w_FD = B.subarray(e * size, (e + 1) * size);
    const outWidth = size / widthA;
    const w_NK = form === "nt" ? rounded(w_FD, bf16) : transposed(w_FD, widthA, outWidth, bf16);
    const out_NF = O.subarray(from * outWidth, to * outWidth);
    dotRows(out_NF, rounded(gathered(A, widthA, from, to, rowsA), bf16), w_NK, n, outWidth, widthA, accumulate);
  }
}

/** out[M,N] = a[M,K] b[N,K]^T, each element one sum in rising order of k. Eight sums at a time hide the latency of the additions. */
function dotRows(out: Floats, a: Floats, b: Floats, M: number, N: number, K: number, accumulate: boolean): void {
  const store = (at: number, sum: number): void => {
    out[at] = accumulate ? out[at] + sum : sum;
  };
  for (let n = 0; n < N; n += 4) {
    const b0 = n * K;
    const b1 = Math.min(n + 1, N - 1) * K;
    const b2 = Math.min(n + 2, N - 1) * K;
    const b3 = Math.min(n + 3, N - 1) * K;
    for (let m = 0; m < M; m += 2) {
      const a0 = m * K;
      const a1 = Math.min(m + 1, M - 1) * K;
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0;
      let s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      for (let k = 0; k < K; k++) {
        const x0 = a[a0 + k];
        const x1 = a[a1 + k];
        const y0 = b[b0 + k];
        const y1 = b[b1 + k];
        const y2 = b[b2 + k];
        const y3 = b[b3 + k];
        s00 += x0 * y0;
        s01 += x0 * y1;
        s02 += x0 * y2;
        s03 += x0 * y3;
        s10 += x1 * y0;
        s11 += x1 * y1;
        s12 += x1 * y2;
        s13 += x1 * y3;
      }
      const at = m * N + n;
      store(at, s00);
      if (n + 1 < N) store(at + 1, s01);
      if (n + 2 < N) store(at + 2, s02);
      if (n + 3 < N) store(at + 3, s03);
      if (m + 1 === M) continue;
      store(at + N, s10);
      if (n + 1 < N) store(at + N + 1, s11);
      if (n + 2 < N) store(at + N + 2, s12);
      if (n + 3 < N) store(at + N + 3, s13);
    }
  }
}

/** x[rows,cols]^T. */
function transposed(x: Floats, rows: number, cols: number, bf16: boolean): Floats {
  const out = scratch(x, rows * cols);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) out[j * rows + i] = x[i * cols + j];
  }
  return bf16 ? roundInPlace(out) : out;
}

/** Rows [from, to) of x, or of x seen through `rows`. */
function gathered(x: Floats, width: number, from: number, to: number, rows: Int32Array | undefined): Floats {
  if (rows === undefined) return x.subarray(from * width, to * width);
  const out = scratch(x, (to - from) * width);
  const used = rows.subarray(from, to);
  check(used.every((row) => row >= 0), "ERR_SWITCHYARD_ENGINE", () => `groupedMatmul: one of the rows ${from} to ${to - 1} is negative`);
  for (let n = from; n < to; n++) out.set(x.subarray(rows[n] * width, (rows[n] + 1) * width), (n - from) * width);
  return out;
}

function rounded(x: Floats, bf16: boolean): Floats {
  return bf16 ? roundInPlace(x.slice()) : x;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** To the nearest bfloat16 (the upper half of a float), ties to even. */
function roundInPlace(x: Floats): Floats {
  for (let i = 0; i < x.length; i++) {
    float[0] = x[i];
    if (Number.isNaN(x[i])) continue;
    bits[0] = (bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) & 0xffff0000;
    x[i] = float[0];
  }
  return x;
}
