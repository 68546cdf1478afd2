/** max |got - want| / max |want|; NaN where either has one, Infinity against zeros. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < want.length; i++) {
    difference = larger(difference, (got[i] as number) - (want[i] as number));
    largest = larger(largest, want[i] as number);
  }
  return difference === 0 ? 0 : difference / largest;
}

/** The larger of `a` and |b|; a NaN stays. */
const larger = (a: number, b: number): number => (Math.abs(b) <= a ? a : Number.isNaN(a) ? a : Math.abs(b));

/** Experts and weights [T, k], row by row; -1 and `dropped` are choices that count for nothing. */
export interface Choices {
  experts: ArrayLike<number>;
  /** undefined: only the experts are known. */
  weights?: ArrayLike<number> | undefined;
  k: number;
  /** [T], not 0 where the token was dropped. */
  dropped?: ArrayLike<number> | undefined;
}

export interface RoutingComparison {
  /** Share of the tokens that have the same set of experts. */
  agreement: number;
  /** max |difference| / max |weight| over tokens and experts, matched by expert, one that was not chosen weighing 0; null without weights. */
  weightError: number | null;
}

/** Compares two decisions on `tokens` tokens. */
export function compareRouting(got: Choices, want: Choices, tokens: number): RoutingComparison {
  let same = 0;
  let difference = 0;
  let largest = 0;
  for (let t = 0; t < tokens; t++) {
    const [mine, theirs] = [weightsByExpert(got, t), weightsByExpert(want, t)];
    if (mine.size === theirs.size && [...mine.keys()].every((e) => theirs.has(e))) same++;
    for (const expert of new Set([...mine.keys(), ...theirs.keys()])) {
      const weight = theirs.get(expert) ?? 0;
      difference = larger(difference, (mine.get(expert) ?? 0) - weight);
      largest = larger(largest, weight);
    }
  }
  const weightError = got.weights === undefined || want.weights === undefined ? null : difference === 0 ? 0 : difference / largest;
  return { agreement: same / tokens, weightError };
}

/** Experts of token `t` and their weights. */
export function weightsByExpert({ experts, weights, k, dropped }: Choices, t: number): Map<number, number> {
  if ((dropped?.[t] ?? 0) !== 0) return new Map();
  const slots = Array.from({ length: k }, (_, j) => t * k + j).filter((slot) => (experts[slot] as number) >= 0);
  return new Map(slots.map((slot) => [experts[slot] as number, weights?.[slot] ?? 0]));
}
