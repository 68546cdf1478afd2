import type { Tape } from "../autograd/tape.js";
import { add, linear, mul, normal, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";

/** Logits with learned noise, and what the load loss needs of them. All [T,E]. */
export interface NoisyLogits {
  /** H = clean + normal(0, 1) * deviation; equal to `clean` outside training. */
  logits: Tensor;
  clean: Tensor;
  /** Standard deviation of each logit's noise. */
  deviation: Tensor;
}

/**
 * Noisy top-k gating (Shazeer et al. 2017, arXiv 1701.06538): H = x Wg + N(0, 1) * softplus(x Wn), the noise in training
 * only and new for every token and expert. `clean` is x Wg; x [T,D], noiseWeight [E,D].
 */
export function noisyLogits(tape: Tape, x: Tensor, clean: Tensor, noiseWeight: Tensor): NoisyLogits {
  const deviation = unary(tape, "softplus", linear(tape, x, noiseWeight, undefined, "f32"));
  const logits = tape.training ? add(tape, clean, mul(tape, deviation, normal(tape, clean.shape))) : clean;
  return { logits, clean, deviation };
}
