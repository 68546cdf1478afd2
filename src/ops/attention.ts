import { gradOf, type Tape } from "../autograd/tape.js";
import type { AttentionDims, AttentionExtras } from "../engine/engine.js";
import { visibleKeys } from "../engine/visible-keys.js";
import { check } from "../errors.js";
import { checkShape, type Tensor } from "../tensor/tensor.js";

/**
 * Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245), causal by default; shapes as in AttentionDims and AttentionExtras.
 * Differentiable in q, k, v and the sinks; throws ERR_SWITCHYARD_USAGE when a bias requires a gradient.
 * FLOPs of the two products: 2 * (headDim + valueDim) per head and pair of a query and a key that it sees, twice that backward.
 */
export function attention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, dims: AttentionDims, extras: AttentionExtras = {}): Tensor {
  const { engine } = tape;
  const { batch, queries, keyStride, heads, kvHeads, headDim, valueDim = headDim, valueStride = kvHeads * valueDim } = dims;
  checkDims(dims);
  checkShape("attention", "q", q, [batch * queries, heads * headDim]);
  checkShape("attention", "k", k, [batch * keyStride, kvHeads * headDim]);
  checkShape("attention", "v", v, [batch * keyStride, valueStride]);
  checkExtras(tape, dims, extras);
  check(dims.valueStride === undefined || !tape.recording, "ERR_SWITCHYARD_USAGE", () => "attention: values that do not stand side by side get no gradient");
  const out = tape.alloc([batch * queries, heads * valueDim]);
  const lse = tape.alloc([batch * queries, heads]);
  engine.attention(out, lse, q, k, v, dims, extras);
  const pairs = batch * heads * seenKeys(dims);
  tape.flops += 2 * (headDim + valueDim) * pairs;
  const { sinks } = extras;
  tape.record(
    [out],
    [q, k, v, sinks],
    () => {
      tape.overwrite([q, k, v, sinks], ([dq, dk, dv, dsinks]) => engine.attentionBackward(dq, dk, dv, dsinks, gradOf(out), q, k, v, out, lse, dims, extras));
      tape.flops += 4 * (headDim + valueDim) * pairs; // the scores, computed again, do not count
    },
    [lse],
  );
  return out;
}

function checkDims({ queries, keys, keyStride, heads, kvHeads, headDim, valueDim = headDim, valueStride = kvHeads * valueDim, causal = true, window, chunk }: AttentionDims): void {
  check(
    valueStride >= kvHeads * valueDim,
    "ERR_SWITCHYARD_SHAPE",
    () => `attention: expected rows of v to be at least ${kvHeads} * ${valueDim} elements apart, got ${valueStride}`,
  );
  check(
    heads % kvHeads === 0 && (!causal || queries <= keys) && keys <= keyStride,
    "ERR_SWITCHYARD_SHAPE",
    () => `attention: expected heads (${heads}) to be a multiple of key/value heads (${kvHeads}) and queries (${queries}) <= keys (${keys}) <= stride (${keyStride})`,
  );
  for (const [name, size] of [["window", window], ["chunk", chunk]] as const) {
    check(
      size === undefined || (causal && Number.isInteger(size) && size > 0),
      "ERR_SWITCHYARD_SHAPE",
      () => `attention: expected ${name} to be a positive number of keys, in causal attention only, got ${size}${causal ? "" : " and causal: false"}`,
    );
  }
}

function checkExtras(tape: Tape, { batch, queries, keys, heads }: AttentionDims, { sinks, bias }: AttentionExtras): void {
  if (sinks !== undefined) checkShape("attention", "sinks", sinks, [heads]);
  if (bias === undefined) return;
  const [b, h, ...sheet] = bias.shape;
  check(
    (b === 1 || b === batch) && (h === 1 || h === heads) && sheet.length === 2 && sheet[0] === queries && sheet[1] === keys,
    "ERR_SWITCHYARD_SHAPE",
    () => `attention: expected bias of shape [1 or ${batch}, 1 or ${heads}, ${queries}, ${keys}], got ${bias}`,
  );
  check(!(tape.recording && bias.requiresGrad), "ERR_SWITCHYARD_USAGE", () => "attention: a bias gets no gradient; record with a bias that requires none");
}

/** Keys seen, summed over the queries of one sequence. */
function seenKeys(dims: AttentionDims): number {
  let pairs = 0;
  for (let i = 0; i < dims.queries; i++) {
    const { first, end } = visibleKeys(dims, i);
    pairs += end - first;
  }
  return pairs;
}
