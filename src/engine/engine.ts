import type { Tensor } from "../tensor/tensor.js";
import type { Memory } from "./memory.js";
import type { MixerOps } from "./mixer-ops.js";
import type { RepackingOps } from "./repacking.js";

export type { FileReads, Memory, Region } from "./memory.js";
export type { LooseRows, RepackingOps } from "./repacking.js";

/**
 * The one seam between TypeScript and kernels. `reference.ts` is the executable specification,
 * `native.ts` the addon; every op test runs on both.
 *
 * Dimension letters: T tokens, D model width, F hidden width, E experts, K experts per token,
 * N routed rows (T*K), V vocabulary, H heads.
 *
 * Rules for every op:
 * - the first argument(s) are written, the others only read; `out` may alias an input only where said;
 * - `accumulate` adds to the output instead of overwriting it;
 * - shapes have been checked by the caller (`ops/`); the native binding re-checks that every address
 *   range lies in live engine memory;
 * - a result row never depends on the number of threads or on the other rows of the call: each output
 *   element is one chain of fused multiply-adds in rising order of the reduction index.
 */
export interface Engine extends Memory, RepackingOps, MatrixOps, TransformerOps, MixerOps, RoutingOps, ElementwiseOps, TrainingOps {
  readonly name: "reference" | "native";
  /** Element type of weights and activations: f32, or f64 on a reference engine made for gradient checks. */
  readonly float: "f32" | "f64";
  /** Kernel variant in use: "typescript", "x86-64", "avx2", "avx512", "avx512-bf16". */
  readonly isa: string;
  /** What loaded this engine, for `switchyard doctor`: a path, or "built in". */
  readonly source: string;
  /** Threads of the pool, which all native engines of the process share; 1 on the reference engine. */
  threads: number;
}

/** nt: a[M,K] b[N,K]^T; nn: a[M,K] b[K,N]; tn: a[K,M]^T b[K,N]. The result is [M,N]. */
export type MatmulForm = "nt" | "nn" | "tn";
/** bf16 rounds both operands to bfloat16 (nearest, ties to even) and accumulates in f32. */
export type Precision = "f32" | "bf16";

export interface MatmulOptions {
  accumulate?: boolean;
  /**
   * Default: what `b` asks for, see `MatrixOps`. f64: the products of floats of form nt are summed in double precision, the others as f32. For what
   * amplifies rounding: two to seven times slower.
   */
  precision?: Precision | "f64" | undefined;
  /** Where `out` has more columns than the result, the column that the result begins at: products stand side by side. Not for grouped products of form tn. */
  column?: number | undefined;
}

/** One matrix per expert: [E, rows, columns], or a list of E matrices [rows, columns] of one type. */
export type ExpertMatrices = Tensor | readonly Tensor[];

export interface GroupedOptions extends MatmulOptions {
  /** i32 [N]: row n of `a` is really row `rowsA[n]`. */
  rowsA?: Tensor | undefined;
  /** i32 [N]: the same for `b`; form tn only. */
  rowsB?: Tensor | undefined;
  /** A second matrix of each expert, of as many rows; its results stand in the columns after those of `b`. Form nt only. */
  beside?: ExpertMatrices | undefined;
  /** f64 [1] for the sum of squares of all of `out`, the same on any number of threads. Form tn, without `accumulate`. */
  squares?: Tensor | undefined;
}

/**
 * In form nt, b may be of a stored type, read where it lies. f16 and 8-bit floats, times their scale, are widened and multiplied as f32; so is bf16 in
 * precision f32, and by default `a` is rounded to bf16. For the quantised types each row of `a` is rounded to int8 in blocks of 32, and the products
 * within the 16 or 32 elements that share a scale are exact integers; reference/quantised.ts is the specification, and `precision` is without effect.
 */
export interface MatrixOps {
  matmul(form: MatmulForm, out: Tensor, a: Tensor, b: Tensor, options?: MatmulOptions): void;
  /**
   * outs[i] = a bs[i]^T, form nt; where one tensor is given for several, their results stand side by side in it. What is to be multiplied by the
   * same rows is best given together: a parallel region costs as much as reading a third of a megabyte.
   */
  matmuls(outs: readonly Tensor[], a: Tensor, bs: readonly Tensor[], options?: Pick<MatmulOptions, "precision">): void;
  /**
   * One call for all experts over ragged row groups: group e is rows [offsets[e], offsets[e+1]), offsets i32 [E+1].
   * With w [E,F,D]: nt: out[n,F] = a[n,D] w_e^T; nn: out[n,D] = a[n,F] w_e;
   * tn: out[E,F,D] = sum over n of group e of a[n,F]^T b[n,D], zero for an empty group.
   * Rows of `out` at and beyond offsets[E] are not written (nt, nn).
   */
  groupedMatmul(form: MatmulForm, out: Tensor, a: Tensor, b: ExpertMatrices, offsets: Tensor, options?: GroupedOptions): void;
}

/**
 * q [batch * queries, heads * headDim]; k [batch * keyStride, kvHeads * headDim]; v [batch * keyStride, kvHeads * valueDim], of which the
 * first `keys` rows of each sequence count; out [batch * queries, heads * valueDim].
 * Query i of a sequence stands at position keys - queries + i.
 */
export interface AttentionDims {
  batch: number;
  queries: number;
  keys: number;
  keyStride: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Head size of v and out; default headDim. */
  valueDim?: number | undefined;
  /** Elements from one row of v to the next; default kvHeads * valueDim. So v may be k, whose keys begin with their values. No backward pass has it. */
  valueStride?: number | undefined;
  /** Multiplies q.k, usually 1/sqrt(headDim). */
  scale: number;
  /** f64: q.k is summed in double precision, of f32 keys only. */
  precision?: "f32" | "f64" | undefined;
  /** Queries see no later keys (the default, queries <= keys); false: every key, as in encoders and cross-attention. */
  causal?: boolean | undefined;
  /** Causal queries see the last `window` keys only, their own included (Beltagy et al. 2020). */
  window?: number | undefined;
  /** Causal queries see keys of their own chunk only, positions [c * chunk, (c + 1) * chunk). */
  chunk?: number | undefined;
}

export interface AttentionExtras {
  /** [heads]: one more logit in each softmax's denominator (Xiao et al. 2023). */
  sinks?: Tensor | undefined;
  /** [1 or batch, 1 or heads, queries, keys], added to the scaled scores; -Infinity masks. A row all masked gives zeros. */
  bias?: Tensor | undefined;
}

export interface RopeDims {
  heads: number;
  headDim: number;
  /** The rotated slice of each head, elements [first, first + rotary), by default all; the others are copied. */
  first?: number | undefined;
  rotary?: number | undefined;
  /** Pairs are elements (2i, 2i + 1) of the slice instead of (i, i + rotary/2). */
  interleaved?: boolean | undefined;
  /** Rotates by the opposite angle: the gradient of `rope`. */
  inverse?: boolean;
}

/** gelu-tanh is the tanh approximation, quick-gelu x * sigmoid(1.702 x) (Hendrycks and Gimpel 2016); relu2 is relu(x)^2 (So et al. 2021). */
export type Activation = "silu" | "gelu" | "gelu-tanh" | "quick-gelu" | "relu" | "relu2";

export interface GluOptions {
  activation: Activation;
  /** true: x is [N, 2F] = gate then up, and out = act(gate) * up; false: x is [N, F], out = act(x). */
  gated: boolean;
  /** [N]: multiplies each row of the output: the router's weight of a routed row. */
  rowScale?: Tensor | undefined;
  /** "input": rowScale multiplies each row of x instead, before the bias. */
  rowScaleOn?: "output" | "input" | undefined;
  /** Added to x: [E, columns of x] with offsets, row e to group e; [columns of x] without. */
  bias?: Tensor | undefined;
  /** After the bias, gate (or x) is clamped to at most this, up to at most this in magnitude. */
  limit?: number | undefined;
  /** Added to up, after the clamp. */
  upOffset?: number | undefined;
  /** i32 [E+1]: only the first offsets[E] rows exist; the rest are neither read nor written. */
  offsets?: Tensor | undefined;
}

interface TransformerOps {
  /** out[M,D] = x / sqrt(mean(x^2) + eps) * (weight[D] + offset), without weight times 1 (Zhang and Sennrich 2019). offset: default 0. */
  rmsNorm(out: Tensor, x: Tensor, weight: Tensor | undefined, eps: number, offset?: number): void;
  /** dx and dweight accumulate when their flag is set; pass undefined for a gradient that is not wanted. */
  rmsNormBackward(
    dx: Tensor | undefined, dweight: Tensor | undefined,
    dout: Tensor, x: Tensor, weight: Tensor | undefined, eps: number, accumulate: { dx: boolean; dweight: boolean }, offset?: number,
  ): void;
  /** out[M,D] = (x - mean) / sqrt(var + eps) * weight[D] (+ bias[D]) (Ba et al. 2016). */
  layerNorm(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): void;
  layerNormBackward(
    dx: Tensor | undefined, dweight: Tensor | undefined, dbias: Tensor | undefined,
    dout: Tensor, x: Tensor, weight: Tensor, eps: number, accumulate: { dx: boolean; dweight: boolean; dbias: boolean },
  ): void;
  /** Rotary embedding (Su et al. 2021). table [P, rotary] = cos | sin halves; positions i32 [T]. out may be x. */
  rope(out: Tensor, x: Tensor, table: Tensor, positions: Tensor, dims: RopeDims): void;
  /** Grouped-query attention. k and v may both be f16, which is widened exactly. lse [T,H]: log-sum-exp of each row of scores and its sink, kept for the backward pass. */
  attention(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, dims: AttentionDims, extras?: AttentionExtras): void;
  /** Overwrites dq, dk, dv, and dsinks [H] where wanted. keyStride equals keys here, k and v are no f16. */
  attentionBackward(
    dq: Tensor, dk: Tensor, dv: Tensor, dsinks: Tensor | undefined,
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dims: AttentionDims, extras?: AttentionExtras,
  ): void;
  /** Activation, gated (Shazeer 2020) or not. */
  glu(out: Tensor, x: Tensor, options: GluOptions): void;
  /** dx and drowScale [N] are overwritten; drowScale when rowScale is given. */
  gluBackward(dx: Tensor, drowScale: Tensor | undefined, dout: Tensor, x: Tensor, options: GluOptions): void;
  /** out[m] = table[rows[m]], rows i32 [M]; a negative row gives zeros. The table may be of a stored type. */
  gatherRows(out: Tensor, table: Tensor, rows: Tensor): void;
  /** dtable[rows[m]] += dout[m], in rising order of m; negative rows are skipped. */
  scatterAddRows(dtable: Tensor, dout: Tensor, rows: Tensor): void;
  /** losses[T] = -log softmax(logits[T,V])[targets]; targets i32, negative ones give 0. */
  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor): void;
  /** dlogits = dlosses[t] * (softmax(logits) - onehot); dlogits may be logits. */
  crossEntropyBackward(dlogits: Tensor, dlosses: Tensor, logits: Tensor, targets: Tensor): void;
}

export interface GroupLimit {
  /** Number of groups that E is divided into. */
  count: number;
  /** Groups kept per token. */
  keep: number;
  /** A group's score: its best expert (DeepSeek-V2) or the sum of its two best (DeepSeek-V3). */
  score: "max" | "top2sum";
}

interface RoutingOps {
  /**
   * indices i32 [T,K]: columns of the K largest scores[T,E] (+ bias[E]), best first, ties to the lower column.
   * With `groups`, only experts of the best groups take part.
   */
  topK(indices: Tensor, scores: Tensor, options?: { bias?: Tensor | undefined; groups?: GroupLimit | undefined }): void;
  /** out[T,K] = x[t, columns[t,k]]; a negative column gives 0. */
  gatherColumns(out: Tensor, x: Tensor, columns: Tensor): void;
  /** dx[t, columns[t,k]] += dout[t,k]; dx is zeroed first unless `accumulate`. */
  scatterColumns(dx: Tensor, dout: Tensor, columns: Tensor, accumulate?: boolean): void;
  /**
   * Stable counting sort of the slots s = t*K+k of experts i32 [T,K] by expert; negative experts are dropped.
   * offsets i32 [E+1]; slots i32 [N]: sorted row -> slot (-1 beyond offsets[E]); tokens i32 [N]: slot / K (-1 likewise);
   * positions i32 [T,K]: slot -> sorted row, or -1.
   */
  sortByExpert(offsets: Tensor, slots: Tensor, tokens: Tensor, positions: Tensor, experts: Tensor): void;
  /** out[t] = sum over k of y[positions[t,k]], times weights[t,k] if given, in order of k, skipping negative positions. */
  combineRows(out: Tensor, y: Tensor, positions: Tensor, options?: CombineOptions): void;
}

export interface CombineOptions {
  accumulate?: boolean | undefined;
  /** [T, K] */
  weights?: Tensor | undefined;
}

export type UnaryFn = "neg" | "exp" | "log" | "sqrt" | "square" | "sigmoid" | "tanh" | "softplus" | "relu" | "normal-cdf";
export type BinaryFn = "add" | "sub" | "mul" | "div";

interface ElementwiseOps {
  /** out may be x. */
  unary(fn: UnaryFn, out: Tensor, x: Tensor): void;
  /** dx = dout * fn'(x). */
  unaryBackward(fn: UnaryFn, dx: Tensor, dout: Tensor, x: Tensor, accumulate?: boolean): void;
  /**
   * out = a fn b, out and a of one shape [rows, cols]; b has that size too, or is broadcast: one element,
   * [cols] over every row, or [rows, 1] over every column. out may be a.
   */
  binary(fn: BinaryFn, out: Tensor, a: Tensor, b: Tensor): void;
  /** out = factor * x (+ out with accumulate); out may be x. */
  scale(out: Tensor, x: Tensor, factor: number, accumulate?: boolean): void;
  /** Sums of x[rows, cols]: "rows" over each row -> [rows]; "columns" over each column -> [cols]; "all" -> one element. */
  sum(out: Tensor, x: Tensor, over: "rows" | "columns" | "all", accumulate?: boolean): void;
  /** Over each row. */
  softmax(out: Tensor, x: Tensor): void;
  /** dx = out * (dout - sum(dout * out)). */
  softmaxBackward(dx: Tensor, dout: Tensor, out: Tensor, accumulate?: boolean): void;
  /** out[rows] = log(sum(exp(x))). */
  logSumExp(out: Tensor, x: Tensor): void;
  /** dx = dout[row] * softmax(x). */
  logSumExpBackward(dx: Tensor, dout: Tensor, x: Tensor, accumulate?: boolean): void;
  /** Each element kept with probability 1 - rate and scaled by 1 / (1 - rate); the mask depends on (seed, index) alone. out may be x. */
  dropout(out: Tensor, x: Tensor, rate: number, seed: number): void;
  /** Uniform in [low, high), from (seed, index) alone. */
  uniform(out: Tensor, low: number, high: number, seed: number): void;
  /** Normal with mean 0 (Box and Muller 1958), from (seed, index) alone. */
  normal(out: Tensor, std: number, seed: number): void;
}

export interface AdamWOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** 1 for the first step: bias correction. */
  step: number;
  /** Multiplies the gradient first: the clipping factor. */
  gradScale: number;
}

interface TrainingOps {
  /**
   * AdamW (Loshchilov and Hutter 2019): updates param, m and v in place. The native engine may put off the updates of experts until one of their tensors is used,
   * which nobody can see.
   */
  adamW(param: Tensor, grad: Tensor, m: Tensor, v: Tensor, options: AdamWOptions): void;
  /** Sum of the squares of all elements, in f64, in a fixed order. */
  sumSquares(x: Tensor): number;
}
