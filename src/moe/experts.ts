import type { Tape } from "../autograd/tape.js";
import type { Activation, ExpertMatrices } from "../engine/engine.js";
import { add, expertsIn, expertsOut, gatherRows, glu, linear, matmul, reshape, scatterColumns } from "../ops/index.js";
import type { Routing } from "../routing/types.js";
import { isQuantised } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import type { DispatchPlan } from "./plan.js";

export interface FeedForwardShape {
  activation: Activation;
  /** act(gate) * up instead of act(x). */
  gated: boolean;
  /** Before the activation the gate is limited to at most this, up to at most this in magnitude (gpt-oss). */
  limit?: number | undefined;
  /** Added to up, after the limit. */
  upOffset?: number | undefined;
  /** The router's weight multiplies an expert's input, before everything that is not linear, instead of its output (Llama 4). */
  weightOn?: "input" | undefined;
}

/** One feed-forward network: `up` holds gate then up rows when gated. A weight may stand in several parts, one below the other. */
export interface FeedForwardParameters {
  /** [2F or F, D] */
  up: Tensor | readonly Tensor[];
  /** [D, F] */
  down: Tensor | readonly Tensor[];
  /** [2F or F] */
  upBias?: Tensor | undefined;
  /** [D] */
  downBias?: Tensor | undefined;
}

/** A stack of such networks. */
export interface ExpertParameters {
  /** [E, 2F or F, D]; or [E, F, D], the gate alone. */
  up: ExpertMatrices;
  /** [E, F, D]: up where it stands apart from the gate. */
  beside?: ExpertMatrices | undefined;
  /** [E, D, F] */
  down: ExpertMatrices;
  /** [E, 2F or F] */
  upBias?: Tensor | undefined;
  /** [E, D] */
  downBias?: Tensor | undefined;
}

/** The dense feed-forward layer: down(act(gate x) * up x). */
export function feedForward(tape: Tape, x: Tensor, { up, down, upBias, downBias }: FeedForwardParameters, shape: FeedForwardShape): Tensor {
  return linear(tape, glu(tape, linear(tape, x, up, upBias), activationOf(shape)), down, downBias);
}

const activationOf = ({ activation, gated, limit, upOffset }: FeedForwardShape) => ({ activation, gated, limit, upOffset });

export type Routed = Pick<Routing, "experts" | "weights">;

/**
 * out[t] = sum over k of weights[t,k] * expert_k(x[t]), all experts in two grouped products.
 * The weight multiplies the hidden row, which by linearity of `down` weights the expert's output (decision 0003); where hidden rows are rounded to
 * 8 bits it multiplies the output itself, so that they are rounded as llama.cpp rounds them.
 */
export function routedExperts(tape: Tape, x: Tensor, { experts, weights }: Routed, plan: DispatchPlan, { up, beside, down, upBias, downBias }: ExpertParameters, shape: FeedForwardShape): Tensor {
  const onOutput = shape.weightOn === undefined && isQuantised(("shape" in down ? down : (down[0] as Tensor)).dtype);
  const rowScale = onOutput ? undefined : gatherRows(tape, reshape(tape, weights, [weights.size, 1]), plan.slots);
  const options = { rowScale, rowScaleOn: shape.weightOn, bias: upBias, offsets: plan.offsets, ...activationOf(shape) };
  const out = expertsOut(tape, glu(tape, expertsIn(tape, x, up, plan, beside), options), down, plan, onOutput ? weights : undefined);
  if (downBias === undefined) return out;
  // With the weight on the input, each expert's own bias counts in full.
  const share = shape.weightOn === undefined ? weights : tape.constant(weights.shape, new Float32Array(weights.size).fill(1));
  return add(tape, out, matmul(tape, scatterColumns(tape, share, experts, downBias.rows), downBias));
}
