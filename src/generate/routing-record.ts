import type { LanguageModel } from "../model/language-model.js";
import { comparedScores, tokenRecords } from "../routing/summary.js";
import type { Routing } from "../routing/types.js";

/** One token's way through one sparse layer. Plain data: JSON keeps it as it is. */
export interface LayerRoute {
  layer: number;
  /** Best first; dropped ones are left out. */
  experts: number[];
  /** What each of their outputs is multiplied by. */
  weights: number[];
  /** What the router's score function gave each of them (of raw logits: their softmax). */
  scores: number[];
  /** How far the last choice was ahead of the first expert not chosen, selection bias included; null where tokens do not choose, or choose all. */
  margin: number | null;
  /** Entropy in nats of all experts' scores, divided by their sum. */
  entropy: number;
  /** Experts that were chosen and had no room. */
  dropped: number[];
}

/** One token's way through all sparse layers, in their order. */
export interface TokenRoute {
  /** Its id. */
  token: number;
  /** Its place in the sequence, from 0. */
  position: number;
  text: string;
  layers: LayerRoute[];
}

/** Reads the decisions of one step: row `first` and those after it belong to `tokens`, of which the first is at `position`. */
export function routingReader({ engine, config, tokenizer }: LanguageModel, routings: readonly Routing[]): (tokens: readonly number[], first: number, position: number) => TokenRoute[] {
  const layers = routings.map((routing, i) => layerReader(config.sparseLayers[i] as number, routing, (tensor) => engine.read(tensor)));
  return (tokens, first, position) =>
    tokens.map((token, t) => ({ token, position: position + t, text: tokenizer?.decode([token]) ?? "", layers: layers.map((read) => read(first + t)) }));

  function layerReader(layer: number, routing: Routing, read: typeof engine.read): (row: number) => LayerRoute {
    const [K, E] = [routing.experts.cols, routing.scores.cols];
    const [experts_TK, weights_TK, scores_TE] = [read(routing.experts), read(routing.weights), read(routing.scores)];
    const chosen_TK = routing.chosen === undefined ? experts_TK : read(routing.chosen);
    const { choice } = routing;
    const { entropy, margin } = tokenRecords(scores_TE, choice === undefined ? [] : comparedScores(engine, choice, routing.selectionBias), E, K);
    return (row) => {
      const slots = Array.from({ length: K }, (_, k) => row * K + k);
      const kept = slots.filter((slot) => (experts_TK[slot] as number) >= 0);
      const experts = kept.map((slot) => experts_TK[slot] as number);
      return {
        layer,
        experts,
        weights: kept.map((slot) => weights_TK[slot] as number),
        scores: experts.map((e) => scores_TE[row * E + e] as number),
        margin: Number.isFinite(margin[row]) ? (margin[row] as number) : null,
        entropy: entropy[row] as number,
        dropped: slots.filter((slot) => (experts_TK[slot] as number) < 0 && (chosen_TK[slot] as number) >= 0).map((slot) => chosen_TK[slot] as number),
      };
    };
  }
}

/**
 * The chosen experts alone, [tokens][sparse layers][K], as vLLM returns them in `routed_experts` for replaying a routing in training;
 * -1 where none was chosen or the choice was dropped.
 */
export function routedExperts(routes: readonly TokenRoute[]): number[][][] {
  const K = routes.flatMap(({ layers }) => layers).reduce((most, { experts, dropped }) => Math.max(most, experts.length + dropped.length), 0);
  return routes.map(({ layers }) => layers.map(({ experts }) => Array.from({ length: K }, (_, k) => experts[k] ?? -1)));
}
