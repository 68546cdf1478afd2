import type { Tape } from "../autograd/tape.js";
import type { IndexerDims, LinearAttentionDims, SelectiveScan } from "../engine/mixer-ops.js";
import { check } from "../errors.js";
import { checkShape, type Tensor } from "../tensor/tensor.js";

/** Sequence mixers; `MixerOps` in the engine has the mathematics. They have no backward pass. */
export interface MixedSequences {
  /** Sequences of one length side by side in x. */
  batch: number;
  /** What came before, brought up to date by the op; without it every sequence starts here. */
  state?: Tensor | undefined;
}

function refuseGradients(tape: Tape, op: string, inputs: readonly (Tensor | undefined)[]): void {
  check(
    !tape.recording || inputs.every((t) => t?.requiresGrad !== true),
    "ERR_SWITCHYARD_UNSUPPORTED",
    () => `${op}: has no backward pass, so a model with such layers can be run but not trained`,
  );
}

/** Runs an op on the sequences' state, or on zeros. */
function withState(tape: Tape, op: string, T: number, { batch, state }: MixedSequences, shape: readonly number[], run: (state: Tensor) => void): void {
  check(Number.isInteger(batch) && batch >= 1 && T % batch === 0, "ERR_SWITCHYARD_SHAPE", () => `${op}: ${T} rows cannot be divided into ${batch} sequences`);
  if (state !== undefined) {
    checkShape(op, "state", state, [batch, ...shape]);
    return run(state);
  }
  const zeros = tape.alloc([batch, ...shape]);
  tape.engine.fill(zeros, 0);
  run(zeros);
  tape.arena.release(zeros);
}

/** Depthwise causal convolution of x [T, C] with weight [C, K] and bias [C]; state [batch, K - 1, C]. FLOPs: 2 * T * C * K. */
export function causalConv(tape: Tape, x: Tensor, weight: Tensor, bias: Tensor | undefined, sequences: MixedSequences): Tensor {
  refuseGradients(tape, "causalConv", [x, weight, bias]);
  const [C, K] = [x.cols, weight.cols];
  checkShape("causalConv", "weight", weight, [C, K]);
  if (bias !== undefined) checkShape("causalConv", "bias", bias, [C]);
  const out = tape.alloc(x.shape);
  withState(tape, "causalConv", x.rows, sequences, [K - 1, C], (state) => tape.engine.causalConv(out, state, x, weight, bias));
  tape.flops += 2 * x.rows * C * K;
  return out;
}

/**
 * Linear attention with decay, by the gated delta rule when `beta` is given: [T, heads * valueDim]; state [batch, heads, keyDim, valueDim].
 * FLOPs: 5 * T * heads * keyDim * valueDim, 7 with beta.
 */
export function linearAttention(tape: Tape, qkv: Tensor, decay: Tensor, beta: Tensor | undefined, dims: LinearAttentionDims, sequences: MixedSequences): Tensor {
  const op = "linearAttention";
  refuseGradients(tape, op, [qkv, decay, beta]);
  const { heads, keyHeads, keyDim, valueDim } = dims;
  const T = qkv.rows;
  check(heads % keyHeads === 0, "ERR_SWITCHYARD_SHAPE", () => `${op}: expected heads (${heads}) to be a multiple of key heads (${keyHeads})`);
  checkShape(op, "qkv", qkv, [T, 2 * keyHeads * keyDim + heads * valueDim]);
  checkShape(op, "decay", decay, decay.shape.length === 1 ? [heads] : [T, heads]);
  if (beta !== undefined) checkShape(op, "beta", beta, [T, heads]);
  const out = tape.alloc([T, heads * valueDim]);
  withState(tape, op, T, sequences, [heads, keyDim, valueDim], (state) => tape.engine.linearAttention(out, state, qkv, decay, beta, dims));
  tape.flops += (beta === undefined ? 5 : 7) * T * heads * keyDim * valueDim;
  return out;
}

/** Decays of the gated delta rule: [T, H] of step [T, H], bias and logRate [H]; state [batch, 3, H]. FLOPs: not counted. */
export function deltaDecays(tape: Tape, step: Tensor, bias: Tensor, logRate: Tensor, chunk: number, sequences: MixedSequences): Tensor {
  const op = "deltaDecays";
  refuseGradients(tape, op, [step, bias, logRate]);
  const H = step.cols;
  checkShape(op, "bias", bias, [H]);
  checkShape(op, "logRate", logRate, [H]);
  check(Number.isInteger(chunk) && chunk >= 1 && chunk <= 2 ** 24, "ERR_SWITCHYARD_SHAPE", () => `${op}: expected a chunk of 1 to ${2 ** 24} tokens, got ${chunk}`);
  const out = tape.alloc(step.shape);
  withState(tape, op, step.rows, sequences, [3, H], (state) => tape.engine.deltaDecays(out, state, step, bias, logRate, chunk));
  return out;
}

/** Mamba's selective scan of x [T, C]; delta [T, C], a [C, N], b and c [T, N], d [C]; state [batch, N, C]. FLOPs: 6 * T * C * N. */
export function selectiveScan(tape: Tape, x: Tensor, scan: SelectiveScan, sequences: MixedSequences): Tensor {
  const op = "selectiveScan";
  refuseGradients(tape, op, [x, ...Object.values<Tensor>({ ...scan })]);
  const [T, C, N] = [x.rows, x.cols, scan.a.cols];
  const shapes = { delta: [T, C], a: [C, N], b: [T, N], c: [T, N], d: [C] } as const;
  for (const name of ["delta", "a", "b", "c", "d"] as const) checkShape(op, name, scan[name], shapes[name]);
  const out = tape.alloc(x.shape);
  withState(tape, op, T, sequences, [N, C], (state) => tape.engine.selectiveScan(out, state, x, scan));
  tape.flops += 6 * T * C * N;
  return out;
}

/**
 * For each query the topK keys of the highest score, as a bias for attention [batch * queries, keys]: 0, or -infinity where not chosen.
 * q [batch * queries, heads * headDim], k [batch * keyStride, headDim], weights [batch * queries, heads]. Not differentiable: a choice.
 */
export function lightningIndexer(tape: Tape, q: Tensor, k: Tensor, weights: Tensor, dims: IndexerDims): Tensor {
  const op = "lightningIndexer";
  refuseGradients(tape, op, [q, k, weights]);
  const { batch, queries, keys, keyStride, heads, headDim, topK } = dims;
  checkShape(op, "q", q, [batch * queries, heads * headDim]);
  checkShape(op, "k", k, [batch * keyStride, headDim]);
  checkShape(op, "weights", weights, [batch * queries, heads]);
  check(
    queries <= keys && keys <= keyStride && Number.isInteger(topK) && topK >= 1,
    "ERR_SWITCHYARD_SHAPE",
    () => `${op}: expected queries (${queries}) <= keys (${keys}) <= stride (${keyStride}) and a positive topK, got ${topK}`,
  );
  const bias = tape.alloc([batch * queries, keys]);
  tape.engine.lightningIndexer(bias, q, k, weights, dims);
  tape.flops += 2 * batch * heads * headDim * queries * (keys - queries / 2);
  return bias;
}
