import type { Tape } from "../autograd/tape.js";
import { mul } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { DropPolicy } from "./types.js";

/** Rows that one expert takes: C = ceil(factor * T * K / E), at most T (GShard, Lepikhin et al. 2020; Switch, Fedus et al. 2021). */
export function expertCapacity(factor: number, tokens: number, k: number, experts: number): number {
  // The margin keeps rounding errors of the product from adding a row: 1.1 * 10 is 11.000000000000002.
  return Math.min(tokens, Math.ceil((factor * tokens * k) / experts - 1e-9));
}

/** How often each of E experts occurs in experts i32 [T,K] (-1: nowhere), and the number of tokens without any. */
export function countExperts(experts_TK: ArrayLike<number>, k: number, experts: number): { load: Int32Array; empty: number } {
  const load = new Int32Array(experts);
  let empty = 0;
  for (let row = 0; row < experts_TK.length; row += k) {
    let found = 0;
    for (let i = row; i < row + k; i++) {
      const e = experts_TK[i] as number;
      if (e < 0) continue;
      (load[e] as number)++;
      found++;
    }
    if (found === 0) empty++;
  }
  return { load, empty };
}

/** What capacities have left of a choice. */
export interface Capped {
  /** i32 [T,K], -1 where dropped. */
  experts: Tensor;
  /** [T,K], 0 where dropped. */
  weights: Tensor;
  /** Choices that were dropped. */
  dropped: number;
  /** Tokens that have no expert left. */
  fullyDropped: number;
}

/**
 * Drops the choices that overflow `capacity` rows per expert: the expert becomes -1 and the weight 0, with gradient 0;
 * the weights that remain are not normalised again. experts i32 [T,K] best first, weights [T,K].
 */
export function applyCapacity(tape: Tape, experts: Tensor, weights: Tensor, capacity: number, drop: DropPolicy, numExperts: number): Capped {
  const K = experts.cols;
  const experts_TK = tape.engine.read(experts);
  const used_E = new Int32Array(numExperts);
  const kept_TK = new Float64Array(experts.size).fill(1);
  let dropped = 0;
  for (const slot of serviceOrder(tape.engine.read(weights), K, drop)) {
    const e = experts_TK[slot] as number;
    if (e < 0 || (used_E[e] as number)++ < capacity) continue;
    experts_TK[slot] = -1;
    kept_TK[slot] = 0;
    dropped++;
  }
  const fullyDropped = countExperts(experts_TK, K, numExperts).empty;
  if (dropped === 0) return { experts, weights, dropped, fullyDropped };
  return {
    experts: tape.constant(experts.shape, experts_TK, "i32"),
    weights: mul(tape, weights, tape.constant(weights.shape, kept_TK)),
    dropped,
    fullyDropped,
  };
}

/** Slots t * K + k in the order in which they are given room. Sorting is stable: ties go to the earlier token. */
function serviceOrder(weights_TK: ArrayLike<number>, k: number, drop: DropPolicy): number[] {
  const of = (slot: number) => weights_TK[slot] as number;
  const slots = Array.from({ length: weights_TK.length }, (_, slot) => slot);
  if (drop === "probability") return slots.sort((a, b) => of(b) - of(a));
  const tokens = Array.from({ length: slots.length / k }, (_, t) => t);
  if (drop === "batch-prioritised") {
    const best_T = tokens.map((t) => Math.max(...slots.slice(t * k, (t + 1) * k).map(of)));
    tokens.sort((a, b) => (best_T[b] as number) - (best_T[a] as number));
  }
  return Array.from({ length: k }, (_, j) => tokens.map((t) => t * k + j)).flat();
}
