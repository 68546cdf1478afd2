import type { Tensor } from "../../tensor/tensor.js";
import type { CombineOptions, GroupLimit } from "../engine.js";
import { type Floats, floats, indices, ints, scratch } from "./arrays.js";

/** Columns of the `count` largest of x, best first, ties to the lower column; NaN counts as -inf. */
function largest(best: Int32Array, x: Floats): void {
  let filled = 0;
  for (let column = 0; column < x.length; column++) {
    let at = filled;
    while (at > 0 && x[column] > x[best[at - 1]]) at--;
    if (at === best.length) continue;
    if (filled < best.length) filled++;
    best.copyWithin(at + 1, at, filled - 1);
    best[at] = column;
  }
}

function groupScore(x: Floats, score: GroupLimit["score"]): number {
  let first = -Infinity;
  let second = -Infinity;
  for (const value of x) {
    if (value > first) {
      second = first;
      first = value;
    } else if (value > second) {
      second = value;
    }
  }
  return score === "max" || x.length === 1 ? first : first + second;
}

export function topK(out: Tensor, scores: Tensor, options: { bias?: Tensor | undefined; groups?: GroupLimit | undefined } = {}): void {
  const best_TK = ints(out);
  const S = floats(scores);
  const E = scores.cols;
  const K = out.cols;
  const bias_E = options.bias && floats(options.bias);
  const { groups } = options;
  // Sums are rounded to the engine's float type before they are compared, so that every engine breaks the same ties.
  const choice_E = scratch(S, E);
  for (let t = 0; t < out.rows; t++) {
    for (let e = 0; e < E; e++) {
      const score = S[t * E + e] + (bias_E === undefined ? 0 : bias_E[e]);
      choice_E[e] = Number.isNaN(score) ? -Infinity : score;
    }
    if (groups !== undefined) {
      const size = E / groups.count;
      const score_G = scratch(S, groups.count);
      for (let g = 0; g < groups.count; g++) score_G[g] = groupScore(choice_E.subarray(g * size, (g + 1) * size), groups.score);
      const kept = new Int32Array(groups.keep);
      largest(kept, score_G);
      for (let g = 0; g < groups.count; g++) if (!kept.includes(g)) choice_E.fill(-Infinity, g * size, (g + 1) * size);
    }
    largest(best_TK.subarray(t * K, (t + 1) * K), choice_E);
  }
}

export function gatherColumns(out: Tensor, x: Tensor, columns: Tensor): void {
  const O = floats(out);
  const X = floats(x);
  const columns_TK = indices("gatherColumns", columns, x.cols);
  const K = columns.cols;
  for (let i = 0; i < columns_TK.length; i++) {
    const column = columns_TK[i];
    O[i] = column < 0 ? 0 : X[Math.floor(i / K) * x.cols + column];
  }
}

export function scatterColumns(dx: Tensor, dout: Tensor, columns: Tensor, accumulate = false): void {
  const DX = floats(dx);
  const G = floats(dout);
  const columns_TK = indices("scatterColumns", columns, dx.cols);
  const K = columns.cols;
  if (!accumulate) DX.fill(0);
  for (let i = 0; i < columns_TK.length; i++) {
    const column = columns_TK[i];
    if (column >= 0) DX[Math.floor(i / K) * dx.cols + column] += G[i];
  }
}

export function sortByExpert(offsets: Tensor, slots: Tensor, tokens: Tensor, positions: Tensor, experts: Tensor): void {
  const offsets_E = ints(offsets).fill(0);
  const slots_N = ints(slots).fill(-1);
  const tokens_N = ints(tokens).fill(-1);
  const positions_TK = ints(positions);
  const E = offsets_E.length - 1;
  const experts_TK = indices("sortByExpert", experts, E);
  const K = experts.cols;
  for (const expert of experts_TK) if (expert >= 0) offsets_E[expert + 1]++;
  for (let e = 0; e < E; e++) offsets_E[e + 1] += offsets_E[e];
  const next_E = offsets_E.slice(0, E);
  for (let slot = 0; slot < experts_TK.length; slot++) {
    const expert = experts_TK[slot];
    const row = expert < 0 ? -1 : next_E[expert]++;
    positions_TK[slot] = row;
    if (row < 0) continue;
    slots_N[row] = slot;
    tokens_N[row] = Math.floor(slot / K);
  }
}

export function combineRows(out: Tensor, y: Tensor, positions: Tensor, { accumulate = false, weights }: CombineOptions = {}): void {
  const O = floats(out);
  const Y = floats(y);
  const positions_TK = indices("combineRows", positions, y.rows);
  const weights_TK = weights && floats(weights);
  const K = positions.cols;
  const D = out.cols;
  const sum_D = new Float64Array(D);
  for (let t = 0; t < out.rows; t++) {
    sum_D.fill(0);
    for (let k = 0; k < K; k++) {
      const row = positions_TK[t * K + k];
      if (row < 0) continue;
      const weight = weights_TK?.[t * K + k] ?? 1;
      for (let d = 0; d < D; d++) sum_D[d] += weight * Y[row * D + d];
    }
    for (let d = 0; d < D; d++) O[t * D + d] = accumulate ? O[t * D + d] + sum_D[d] : sum_D[d];
  }
}
