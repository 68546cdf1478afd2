import { check } from "../../errors.js";
import { isStored, isStoredFloat } from "../../tensor/dtype.js";
import { bf16ToF32, f32ToBf16 } from "../../tensor/half.js";
import { type Tensor, view } from "../../tensor/tensor.js";
import type { ExpertMatrices, GroupedOptions, MatmulForm, MatmulOptions } from "../engine.js";
import { columnsOf, roundsToBf16 } from "../matrix-lists.js";
import { type Floats, floats, groupOffsets, indices, scratch } from "./arrays.js";
import { sumSquares } from "./optimizer.js";
import { decodeRow, quantisedProduct, storedBytes } from "./quantised.js";

/** Where a product goes: its first element in `values`, the distance between its rows. */
interface Target {
  values: Floats;
  start: number;
  stride: number;
  accumulate: boolean;
}

export function matmul(form: MatmulForm, out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
  const A = floats(a);
  const N = form === "nt" ? b.rows : b.cols;
  const stride = options.column === undefined ? N : out.cols;
  const target = { values: floats(out), start: options.column ?? 0, stride, accumulate: options.accumulate === true };
  if (form !== "tn") return product(form, target, A, a.rows, a.cols, b, options);
  const bf16 = roundsToBf16(b, options);
  const [M, K] = [a.cols, a.rows];
  dotRows(target, transposed(A, K, M, bf16), transposed(floats(b), K, N, bf16), M, N, K);
}

export function matmuls(outs: readonly Tensor[], a: Tensor, bs: readonly Tensor[], options: Pick<MatmulOptions, "precision"> = {}): void {
  const columns = columnsOf(outs, bs);
  bs.forEach((b, i) => matmul("nt", outs[i], a, b, { ...options, column: columns[i] }));
}

/** a[M,K] times b in form nt or nn. */
function product(form: "nt" | "nn", target: Target, a: Floats, M: number, K: number, b: Tensor, options: MatmulOptions): void {
  const N = form === "nt" ? b.rows : b.cols;
  let B: Floats;
  if (isStored(b.dtype)) {
    const { dtype } = b;
    check(form === "nt", "ERR_SWITCHYARD_DTYPE", () => `matmul ${form}: b may be ${dtype} in form nt only; widen it to f32`);
    const bytes = storedBytes(b);
    if (!isStoredFloat(dtype)) {
      const { values, start, stride, accumulate } = target;
      quantisedProduct(dtype, a, bytes, N, K, (m, n, add) => {
        const at = start + m * stride + n;
        values[at] = add(accumulate ? values[at] : 0);
      });
      return;
    }
    B = new Float32Array(N * K);
    for (let n = 0; n < N; n++) decodeRow(dtype, bytes, n, K, B, n * K);
  } else B = floats(b);
  const bf16 = roundsToBf16(b, options);
  dotRows(target, rounded(a, bf16), form === "nt" ? rounded(B, bf16) : transposed(B, K, N, bf16), M, N, K);
}

export function groupedMatmul(form: MatmulForm, out: Tensor, a: Tensor, b: ExpertMatrices, offsets: Tensor, options: GroupedOptions = {}): void {
  const { beside, column = 0, squares } = options;
  if (beside !== undefined) {
    groupedMatmul(form, out, a, b, offsets, { ...options, column, beside: undefined });
    groupedMatmul(form, out, a, beside, offsets, { ...options, column: column + matrixOf(b, 0).rows, beside: undefined });
    return;
  }
  const accumulate = options.accumulate === true;
  const values = floats(out);
  const A = floats(a);
  const rowsA = options.rowsA && indices("groupedMatmul", options.rowsA, a.rows);
  const offsets_E = groupOffsets("groupedMatmul", offsets, rowsA?.length ?? a.rows);
  for (let e = 0; e + 1 < offsets_E.length; e++) {
    const from = offsets_E[e];
    const to = offsets_E[e + 1];
    if (form === "tn") {
      const d = b as Tensor;
      const bf16 = roundsToBf16(d, options);
      const rowsB = options.rowsB && indices("groupedMatmul", options.rowsB, d.rows);
      const target = { values, start: e * a.cols * d.cols, stride: d.cols, accumulate };
      const a_FN = transposed(gathered(A, a.cols, from, to, rowsA), to - from, a.cols, bf16);
      const b_DN = transposed(gathered(floats(d), d.cols, from, to, rowsB), to - from, d.cols, bf16);
      dotRows(target, a_FN, b_DN, a.cols, d.cols, to - from);
    } else if (from < to) {
      const target = { values, start: from * out.cols + (options.column ?? 0), stride: out.cols, accumulate };
      product(form, target, gathered(A, a.cols, from, to, rowsA), to - from, a.cols, matrixOf(b, e), options);
    }
  }
  if (squares !== undefined) floats(squares)[0] = sumSquares(out);
}

/** Expert e's matrix. */
function matrixOf(b: ExpertMatrices, e: number): Tensor {
  if (!("shape" in b)) return b[e];
  const shape = b.shape.slice(1);
  return view(b, shape, e * shape[0] * shape[1]);
}

/** a[M,K] b[N,K]^T, each element one sum in rising order of k. Eight sums at a time hide the latency of the additions. */
function dotRows(target: Target, a: Floats, b: Floats, M: number, N: number, K: number): void {
  const { values, start, stride, accumulate } = target;
  const store = (at: number, sum: number): void => {
    values[at] = accumulate ? values[at] + sum : sum;
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
      const at = start + m * stride + n;
      store(at, s00);
      if (n + 1 < N) store(at + 1, s01);
      if (n + 2 < N) store(at + 2, s02);
      if (n + 3 < N) store(at + 3, s03);
      if (m + 1 === M) continue;
      store(at + stride, s10);
      if (n + 1 < N) store(at + stride + 1, s11);
      if (n + 2 < N) store(at + stride + 2, s12);
      if (n + 3 < N) store(at + stride + 3, s13);
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

/** To the nearest bfloat16, ties to even. */
function roundInPlace(x: Floats): Floats {
  x.set(bf16ToF32(f32ToBf16(x)));
  return x;
}
