import type { Tape } from "../autograd/tape.js";
import type { Tensor } from "../tensor/tensor.js";
import { auxiliaryLoss } from "./balance/auxiliary.js";
import { entropyLoss } from "./balance/entropy.js";
import { importanceLoss, type LoadEstimate, loadLoss } from "./balance/variation.js";
import { countExperts } from "./capacity.js";
import type { Balance } from "./types.js";

export { auxiliaryLoss } from "./balance/auxiliary.js";
export { entropyLoss } from "./balance/entropy.js";
export { type SelectionBiasOptions, updateSelectionBias } from "./balance/selection-bias.js";
export { importanceLoss, type LoadEstimate, loadLoss } from "./balance/variation.js";
export { zLoss } from "./balance/z-loss.js";

/** Balancing methods that are a term of the loss. */
export type BalanceLoss = Exclude<Balance["method"], "none" | "loss-free">;

/** One layer's decision before any drop, as the balance losses see it. */
export interface BalanceInput {
  /** [T,E], rows summing to 1. */
  probabilities: Tensor;
  /** i32 [T,K], best first. */
  experts: Tensor;
  /** [T,K] */
  weights: Tensor;
  /** Choices per expert [E]. */
  load: Int32Array;
  estimate: LoadEstimate;
}

/** The unscaled balance loss of one layer, one element; layers are never pooled. Values: see `balanceRange`. */
export function balanceLoss(tape: Tape, method: BalanceLoss, { probabilities, experts, weights, load, estimate }: BalanceInput): Tensor {
  switch (method) {
    case "switch":
      return auxiliaryLoss(tape, probabilities, load);
    case "gshard":
      return auxiliaryLoss(tape, probabilities, firstChoices(tape, experts, load.length));
    case "importance":
      return importanceLoss(tape, weights, experts, load.length);
    case "load":
      return loadLoss(tape, estimate, experts.cols);
    case "entropy":
      return entropyLoss(tape, probabilities);
  }
}

/** First choices per expert [E] of experts i32 [T,K]. */
function firstChoices(tape: Tape, experts: Tensor, numExperts: number): Int32Array {
  const K = experts.cols;
  return countExperts(tape.engine.read(experts).filter((_, i) => i % K === 0), 1, numExperts).load;
}

/** What the unscaled loss is at best and when the router has collapsed: log (value - min) / (max - min) beside it. */
export function balanceRange(method: BalanceLoss, experts: number, k: number): { min: number; max: number } {
  switch (method) {
    case "switch":
      return { min: 1, max: experts / k };
    case "gshard":
      return { min: 1, max: experts };
    case "importance":
      return { min: 0, max: experts - 1 };
    case "load":
      return { min: 0, max: experts / k - 1 };
    case "entropy":
      return { min: -Math.log(experts), max: 0 };
  }
}
