import type { Tape } from "../autograd/tape.js";
import type { Activation } from "../engine/engine.js";
import { expertsIn, expertsOut, gatherRows, glu, linear, reshape } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { DispatchPlan } from "./plan.js";

export interface FeedForwardShape {
  activation: Activation;
  /** act(gate) * up instead of act(x). */
  gated: boolean;
}

/** One feed-forward network: `up` holds gate then up rows when gated. */
export interface FeedForwardParameters {
  /** [2F or F, D], or [E, 2F or F, D] for a stack of experts. */
  up: Tensor;
  /** [D, F], or [E, D, F]. */
  down: Tensor;
}

/** The dense feed-forward layer: down(act(gate x) * up x). */
export function feedForward(tape: Tape, x: Tensor, { up, down }: FeedForwardParameters, shape: FeedForwardShape): Tensor {
  return linear(tape, glu(tape, linear(tape, x, up), shape), down);
}

/**
 * out[t] = sum over k of weights[t,k] * expert_k(x[t]), all experts in two grouped products.
 * The weight multiplies the hidden row, which by linearity of `down` weights the expert's output (decision 0003).
 */
export function routedExperts(tape: Tape, x: Tensor, weights: Tensor, plan: DispatchPlan, { up, down }: FeedForwardParameters, shape: FeedForwardShape): Tensor {
  const rowScale = gatherRows(tape, reshape(tape, weights, [weights.size, 1]), plan.slots);
  const hidden = glu(tape, expertsIn(tape, x, up, plan), { ...shape, rowScale, offsets: plan.offsets });
  return expertsOut(tape, hidden, down, plan);
}
