import type { Tape } from "../autograd/tape.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Expert choice (Zhou et al. 2022, arXiv 2202.09368): each expert takes the `capacity` tokens that score highest on it
 * (ties to the earlier token), so the load is balanced by construction and a token gets between none and E experts.
 * scores [T,E] are a softmax over experts. Result i32 [T,K'], each token's experts best first and padded with -1;
 * K' is the largest number that a token got, at least 1.
 *
 * A token's experts depend on the other tokens of the call, later ones included: fine for encoders and for
 * experiments, but a causal model trained with it sees the future, and generates differently token by token.
 */
export function expertChoice(tape: Tape, scores: Tensor, capacity: number): Tensor {
  const [T, E] = [scores.rows, scores.cols];
  const scores_TE = tape.engine.read(scores);
  const of = (t: number, e: number) => scores_TE[t * E + e] as number;
  const chosen_T: number[][] = Array.from({ length: T }, () => []);
  for (let e = 0; e < E; e++) {
    const column_T = Float64Array.from({ length: T }, (_, t) => of(t, e));
    const threshold = column_T.toSorted()[T - capacity] as number;
    let ties = capacity - column_T.filter((score) => score > threshold).length;
    column_T.forEach((score, t) => {
      if (score > threshold || (score === threshold && ties-- > 0)) (chosen_T[t] as number[]).push(e);
    });
  }
  const K = Math.max(1, ...chosen_T.map((chosen) => chosen.length));
  const experts_TK = new Int32Array(T * K).fill(-1);
  chosen_T.forEach((chosen, t) => experts_TK.set(chosen.sort((a, b) => of(t, b) - of(t, a) || a - b), t * K));
  return tape.constant([T, K], experts_TK, "i32");
}
