import type { Tape } from "../autograd/tape.js";
import { topK } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/** Every expert for every token, best first: i32 [T,E]. The soft mixture of Jacobs et al. 1991, whose weights are a softmax over all. */
export function allExperts(tape: Tape, scores: Tensor): Tensor {
  return topK(tape, scores, scores.cols);
}
