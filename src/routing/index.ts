export { type Tape } from "../autograd/tape.js";
export { type Tensor } from "../tensor/tensor.js";
export { gatherColumns, linear, add, binary, div, mean, mul, scale, sum, unary, logSumExp, normal, softmax, topK, type TopKOptions, uniform } from "../ops/index.js";
export {
  auxiliaryLoss,
  balanceLoss,
  type BalanceInput,
  type BalanceLoss,
  balanceRange,
  entropyLoss,
  importanceLoss,
  type LoadEstimate,
  loadLoss,
  type SelectionBiasOptions,
  updateSelectionBias,
  zLoss,
} from "./balance.js";
export { applyCapacity, type Capped, countExperts, expertCapacity } from "./capacity.js";
export { defineRouter, type RouterResult } from "./define.js";
export { allExperts } from "./dense.js";
export { expertChoice } from "./expert-choice.js";
export { hashExperts } from "./hash.js";
export { jitter } from "./jitter.js";
export { noisyLogits, type NoisyLogits } from "./noisy-top-k.js";
export { expertWeights, normalize, probabilities, scoreFunction, type WeightRule } from "./parametric.js";
export { routerConfig, type RouterPreset, routerPresets } from "./presets.js";
export { checkRouterConfig, decide, type DecisionInput, route } from "./route.js";
export * from "./statistics.js";
export { gumbelLogits } from "./stochastic.js";
export { comparedScores, routingSummary, type RoutingSummary, type TokenRecord, tokenRecords } from "./summary.js";
export type * from "./types.js";
