import type { Tape } from "../autograd/tape.js";
import { mul, uniform } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * The router's input x [T,D] times uniform(1 - eps, 1 + eps), element by element, in training only (Switch Transformer,
 * Fedus et al. 2021, arXiv 2101.03961, section 2.4). Multiplied into the input, so its effect grows with the logits;
 * noise added to logits would not.
 */
export function jitter(tape: Tape, x: Tensor, eps: number): Tensor {
  return tape.training && eps > 0 ? mul(tape, x, uniform(tape, x.shape, 1 - eps, 1 + eps)) : x;
}
