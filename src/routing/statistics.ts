/**
 * What a routing decision looks like from outside: pure functions over integer counts and plain arrays. One layer at a
 * time: layers are never pooled, because experts that are overloaded in different layers would cancel out.
 * Field names are those of the training log.
 */

/** Counts of one layer over one or more batches. */
export interface RoutingCounts {
  /** Choices per expert, before any were dropped: integers [E]. */
  load: ArrayLike<number>;
  tokens: number;
  /** Choices dropped for want of capacity. */
  dropped: number;
  /** Tokens that lost all their choices. */
  fullyDropped: number;
}

export interface LoadStatistics {
  /** Share of all choices per expert [E]; sums to 1. */
  load: number[];
  /** (max - mean) / mean of the load: 0 when balanced, E - 1 when one expert gets everything (Wang et al. 2024). */
  maxvio: number;
  /** What `maxvio` would be if every choice were uniformly random: below it, differences mean nothing. */
  maxvio_floor: number;
  /** Standard deviation / mean of the load. */
  cv: number;
  /** Entropy of the load / ln E: 1 when balanced, 0 when one expert gets everything. */
  load_entropy: number;
  /** Experts with less than 1 % of the mean load. */
  dead: number;
  /** Share of choices that were dropped. */
  dropped: number;
  /** Share of tokens that lost all their choices. */
  fully_dropped: number;
}

/** Statistics of one layer. Without any tokens everything but `dead` is NaN. */
export function loadStatistics(counts: RoutingCounts): LoadStatistics {
  const count_E = Array.from(counts.load);
  const total = count_E.reduce((sum, n) => sum + n, 0);
  const load = count_E.map((n) => n / total);
  return {
    load,
    maxvio: maxViolation(load),
    maxvio_floor: maxViolationFloor(load.length, total),
    cv: coefficientOfVariation(load),
    load_entropy: load.length === 1 ? 1 : entropy(load) / Math.log(load.length),
    dead: deadExperts(count_E).length,
    dropped: counts.dropped / total,
    fully_dropped: counts.fullyDropped / counts.tokens,
  };
}

/** MaxVio of shares (or counts) [E]. */
export function maxViolation(load_E: readonly number[]): number {
  return Math.max(...load_E) / mean(load_E) - 1;
}

/** Expected MaxVio of `choices` (= tokens * K) uniformly random choices among E experts: sqrt(2 ln E * E / choices). */
export function maxViolationFloor(experts: number, choices: number): number {
  return Math.sqrt((2 * Math.log(experts) * experts) / choices);
}

/** Standard deviation / mean of shares or counts [E]: 0 when balanced, sqrt(E - 1) when one expert gets everything. */
export function coefficientOfVariation(load_E: readonly number[]): number {
  const average = mean(load_E);
  return Math.sqrt(mean(load_E.map((n) => (n - average) ** 2))) / average;
}

/** Entropy in nats of probabilities; 0 ln 0 = 0. */
export function entropy(p: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) if (p[i] !== 0) sum -= p[i]! * Math.log(p[i]!);
  return sum;
}

/** Indices of the experts whose count is below 1 % of the mean. */
export function deadExperts(count_E: readonly number[]): number[] {
  const limit = 0.01 * mean(count_E);
  return count_E.flatMap((n, e) => (n < limit || n === 0 ? [e] : []));
}

/** Mean over tokens of the entropy in nats of their scores, each row divided by its sum: how undecided the router is. */
export function tokenEntropy(scores_TE: ArrayLike<number>, experts: number): number {
  const tokens = scores_TE.length / experts;
  let sum = 0;
  for (let row = 0; row < scores_TE.length; row += experts) {
    let total = 0;
    let sumLog = 0;
    for (let i = row; i < row + experts; i++) {
      const score = scores_TE[i]!;
      total += score;
      if (score > 0) sumLog += score * Math.log(score);
    }
    sum += Math.log(total) - sumLog / total;
  }
  return sum / tokens;
}

/** Mean over tokens of the gap between the k-th and the next score: what a change must overcome to route elsewhere. NaN when k = E. */
export function topKMargin(scores_TE: ArrayLike<number>, experts: number, k: number): number {
  const tokens = scores_TE.length / experts;
  const row_E = new Float64Array(experts);
  let sum = 0;
  for (let t = 0; t < tokens; t++) {
    for (let e = 0; e < experts; e++) row_E[e] = scores_TE[t * experts + e]!;
    row_E.sort();
    sum += row_E[experts - k]! - row_E[experts - k - 1]!;
  }
  return sum / tokens;
}

/** A statistic over the layers: their mean, and the worst of them. */
export interface OverLayers {
  mean: number;
  worst: number;
  /** Index in the list of layers of the worst one. */
  worstIndex: number;
}

/** Mean and worst of one statistic over layers, of which high values are bad. Undefined without layers. */
export function overLayers<T>(layers: readonly T[], value: (layer: T) => number): OverLayers | undefined {
  if (layers.length === 0) return undefined;
  const values = layers.map(value);
  const worst = Math.max(...values);
  return { mean: mean(values), worst, worstIndex: values.indexOf(worst) };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, n) => sum + n, 0) / values.length;
}
