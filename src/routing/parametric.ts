import type { Tape } from "../autograd/tape.js";
import { add, binary, div, gatherColumns, scale, softmax, sum, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { sparseMixer } from "./sparse-mixer.js";
import type { RouterConfig } from "./types.js";

/**
 * Keeps log(0) out of values and gradients; a normal number in f32. Where it is added, the exact result is
 * either much larger or multiplied by something that vanishes.
 */
export const tiny = 1e-30;

/** The score function over all experts, logits [T,E] -> [T,E]: what the choice compares and "score" weights are made of. */
export function scoreFunction(tape: Tape, score: RouterConfig["score"], logits: Tensor): Tensor {
  switch (score) {
    case "softmax":
      return softmax(tape, logits);
    case "sigmoid":
      return unary(tape, "sigmoid", logits);
    case "sqrt-softplus":
      return unary(tape, "sqrt", unary(tape, "softplus", logits));
    case "logits":
      return logits;
  }
}

/** Scores [T,E] with rows divided by their sum, as DeepSeek-V3's balance loss has them; softmax scores are left alone. Of a row that is all 0, 0. */
export function probabilities(tape: Tape, score: RouterConfig["score"], scores: Tensor): Tensor {
  return score === "sigmoid" || score === "sqrt-softplus" ? div(tape, scores, plus(tape, sum(tape, scores, "rows"), tiny)) : scores;
}

/** What of a router's config turns the chosen experts into weights. */
export type WeightRule = Pick<RouterConfig, "weight" | "closeness" | "normalize" | "scale">;

/**
 * Weights [T,K] of the chosen experts i32 [T,K], differentiable in logits and scores [T,E]: gathered scores, or the
 * softmax or sigmoid of the gathered logits, or sparsemixer's; then normalised, then scaled. Where `experts` is -1, "score" gives 0
 * (the others need every slot filled).
 */
export function expertWeights(tape: Tape, rule: WeightRule, logits: Tensor, scores: Tensor, experts: Tensor): Tensor {
  const weights = rawWeights(tape, rule, logits, scores, experts);
  const normalised = rule.normalize === undefined ? weights : normalize(tape, weights, rule.normalize);
  return rule.scale === 1 ? normalised : scale(tape, normalised, rule.scale);
}

function rawWeights(tape: Tape, { weight, closeness = 0 }: WeightRule, logits: Tensor, scores: Tensor, experts: Tensor): Tensor {
  switch (weight) {
    case "score":
      return gatherColumns(tape, scores, experts);
    case "softmax":
      return softmax(tape, gatherColumns(tape, logits, experts));
    case "sigmoid":
      return unary(tape, "sigmoid", gatherColumns(tape, logits, experts));
    case "sparsemixer":
      return sparseMixer(tape, logits, experts, closeness);
  }
}

/** Non-negative rows divided by (sum of w^p)^(1/p) + eps: their sum for p = 1, their Euclidean norm for p = 2; at least by `least`. */
export function normalize(tape: Tape, weights: Tensor, { eps, p, least }: NonNullable<RouterConfig["normalize"]>): Tensor {
  const norm = p === 1 ? sum(tape, weights, "rows") : power(tape, sum(tape, power(tape, weights, p), "rows"), 1 / p);
  const bounded = least === undefined ? norm : plus(tape, unary(tape, "relu", plus(tape, norm, -least)), least);
  return div(tape, weights, eps === 0 ? bounded : plus(tape, bounded, eps));
}

/** x^p for x >= 0. */
function power(tape: Tape, x: Tensor, p: number): Tensor {
  return unary(tape, "exp", scale(tape, unary(tape, "log", plus(tape, x, tiny)), p));
}

/** x + constant. */
export function plus(tape: Tape, x: Tensor, value: number): Tensor {
  return add(tape, x, tape.constant([1], [value]));
}

/** a - b, with b spread over a as in `binary`. */
export function minus(tape: Tape, a: Tensor, b: Tensor): Tensor {
  return binary(tape, "sub", a, b);
}
