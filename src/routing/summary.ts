import type { Engine } from "../engine/engine.js";
import { tokenEntropy, topKMargin } from "./statistics.js";
import type { Routing } from "./types.js";

/** Per token [T], host side: what a routing record keeps beside experts and weights. */
export interface TokenRecord {
  /** Entropy in nats of the token's scores, divided by their sum. */
  entropy: Float64Array;
  /** What the k-th choice had ahead of the first expert not chosen; group limits left aside. NaN when all were chosen. */
  margin: Float64Array;
}

/** scores and choice (the selection bias added) are [T,E] read back from the engine. */
export function tokenRecords(scores_TE: ArrayLike<number>, choice_TE: ArrayLike<number>, experts: number, k: number): TokenRecord {
  const each = (x_TE: ArrayLike<number>, value: (row_E: Float64Array) => number) => {
    const copy_TE = Float64Array.from(x_TE);
    return Float64Array.from({ length: copy_TE.length / experts }, (_, t) => value(copy_TE.subarray(t * experts, (t + 1) * experts)));
  };
  return { entropy: each(scores_TE, (row) => tokenEntropy(row, experts)), margin: each(choice_TE, (row) => topKMargin(row, experts, k)) };
}

/** Means over the tokens of one layer, under the names of the training log. */
export interface RoutingSummary {
  /** Entropy in nats of a token's scores, divided by their sum. */
  token_entropy: number;
  /** Gap between the k-th and the next of what the choice compared; NaN unless each token chooses some of the experts itself. */
  topk_margin: number;
  /** logsumexp(logits)^2. */
  router_z: number;
}

/** Reads the decision back and summarises it; call it before the backward pass, which reuses the tensors' memory. */
export function routingSummary(engine: Engine, routing: Routing): RoutingSummary {
  const { scores, logits, experts } = routing;
  return {
    token_entropy: tokenEntropy(engine.read(scores), scores.cols),
    topk_margin: meanMargin(engine, routing, experts.cols),
    router_z: meanZ(engine.read(logits), logits.cols),
  };
}

/** What the choice compared [T,E], selection bias added. */
export function comparedScores(engine: Engine, choice: NonNullable<Routing["choice"]>, selectionBias: Routing["selectionBias"]): ArrayLike<number> {
  const choice_TE = engine.read(choice);
  if (selectionBias === undefined) return choice_TE;
  const bias_E = engine.read(selectionBias);
  return choice_TE.map((s, i) => s + (bias_E[i % bias_E.length] as number));
}

function meanMargin(engine: Engine, { choice, selectionBias }: Routing, k: number): number {
  return choice === undefined ? Number.NaN : topKMargin(comparedScores(engine, choice, selectionBias), choice.cols, k);
}

function meanZ(logits_TE: ArrayLike<number>, experts: number): number {
  let total = 0;
  for (let row = 0; row < logits_TE.length; row += experts) {
    let max = -Infinity;
    let sum = 0;
    for (let i = row; i < row + experts; i++) max = Math.max(max, logits_TE[i] as number);
    for (let i = row; i < row + experts; i++) sum += Math.exp((logits_TE[i] as number) - max);
    total += (max + Math.log(sum)) ** 2;
  }
  return (total * experts) / logits_TE.length;
}
