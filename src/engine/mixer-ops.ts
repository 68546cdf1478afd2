import type { Tensor } from "../tensor/tensor.js";

/**
 * Sequence mixers whose past is a state of fixed size, and the choice of keys for sparse attention. Forward only.
 *
 * Rows are tokens, T = batch * length, one sequence after the other; `state` holds what came before them, zeros at the start of a sequence,
 * and is brought up to date. Every recurrence is evaluated token by token: a sequence in pieces gives the same bits as in one.
 */
export interface MixerOps {
  /**
   * Depthwise causal convolution: out[t, c] = bias[c] + sum over k of weight[c, k] * x[t - (K - 1) + k, c].
   * out, x [T, C]; weight [C, K]; bias [C]; state [batch, K - 1, C]: the inputs before the first row.
   */
  causalConv(out: Tensor, state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | undefined): void;
  /**
   * Linear attention (Katharopoulos et al. 2020) with decay: S = decay S + k v^T, out = S^T q. With `beta` [T, H] the gated delta rule
   * (Yang et al. 2024, arXiv 2412.06464): v is replaced by beta (v - (decay S)^T k).
   * out [T, H * valueDim]; qkv: queries, then keys, of keyHeads heads and values of H heads side by side; decay [T, H], or [H] for all tokens;
   * state [batch, H, keyDim, valueDim].
   */
  linearAttention(out: Tensor, state: Tensor, qkv: Tensor, decay: Tensor, beta: Tensor | undefined, dims: LinearAttentionDims): void;
  /**
   * Decays of the gated delta rule, exp(g) with g = -exp(logRate) softplus(step + bias), as its chunked kernels have them: g is summed over each
   * `chunk` tokens of a sequence, sums are rounded to f32, and the exponent of a token is the difference of two of them. Sums of hundreds
   * move it by 1e-5, and which way hangs on the last bits of g, so that all is computed in f64, but for exp(logRate), an f32.
   * out, step [T, H]; bias, logRate [H]; state [batch, 3, H]: the rounded sum, what was rounded off, and the tokens in it.
   */
  deltaDecays(out: Tensor, state: Tensor, step: Tensor, bias: Tensor, logRate: Tensor, chunk: number): void;
  /**
   * Mamba's selective scan (Gu and Dao 2023, arXiv 2312.00752): h = exp(delta a) h + delta b x, out = sum over N of h c, + d x.
   * out, x, delta [T, C]; a [C, N]; b, c [T, N]; d [C]; state [batch, N, C].
   */
  selectiveScan(out: Tensor, state: Tensor, x: Tensor, scan: SelectiveScan): void;
  /**
   * DeepSeek-V3.2's lightning indexer: score = sum over heads of weights[t, h] relu(q k), and each query keeps the topK best keys that it
   * sees. bias [batch * queries, keys]: 0 where kept, -infinity elsewhere. Which of several keys with the score of the last one are kept
   * is what PyTorch keeps on a CPU: with few heads many scores are 0. That depends on `keys`, the only thing here that does.
   * q [batch * queries, H * headDim]; k [batch * keyStride, headDim]; weights [batch * queries, H].
   */
  lightningIndexer(bias: Tensor, q: Tensor, k: Tensor, weights: Tensor, dims: IndexerDims): void;
}

export interface LinearAttentionDims {
  /** Of values and output, a multiple of keyHeads: each key head serves heads / keyHeads of them in a row. */
  heads: number;
  keyHeads: number;
  keyDim: number;
  valueDim: number;
  /** Multiplies the queries. */
  scale: number;
  /** When given, queries and keys are first divided by sqrt(sum of squares + normEps). */
  normEps?: number | undefined;
}

export interface SelectiveScan {
  delta: Tensor;
  a: Tensor;
  b: Tensor;
  c: Tensor;
  d: Tensor;
}

/** Rows as in AttentionDims: query i of a sequence stands at position keys - queries + i. */
export interface IndexerDims {
  batch: number;
  queries: number;
  keys: number;
  keyStride: number;
  heads: number;
  headDim: number;
  topK: number;
}
