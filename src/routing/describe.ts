import type { RouterConfig } from "./types.js";

/** A router in words: how the `active` of `experts` are chosen, and what weighs them. */
export function describeRouter(router: RouterConfig, { experts, active }: { experts: number; active: number }): string {
  return [choice(router, experts, active), `weights: ${weights(router)}`, ...capacity(router)].join("; ");
}

function choice({ selection, score, bias, selectionBias, groups }: RouterConfig, experts: number, active: number): string {
  if (selection === "dense") return `dense, all ${experts} experts`;
  if (selection === "hash") return `hash of the token id, ${active} of ${experts} experts`;
  const logits = `logits${bias ? " with a bias" : ""}`;
  const scores = `${score === "logits" ? logits : `${score}${bias ? ` of ${logits}` : " scores"}`}${selectionBias ? " plus a bias for the choice only" : ""}`;
  if (selection === "expert-choice") return `expert-choice, each of ${experts} experts takes its best tokens, ${active} a token on average, by ${scores}`;
  const group = groups === undefined ? "" : `, of the best ${groups.keep} of ${groups.count} groups by ${groups.score === "max" ? "their best expert" : "the sum of their best two"}`;
  return `${selection}, ${active} of ${experts} experts by ${scores}${group}`;
}

function weights({ weight, normalize, scale }: RouterConfig): string {
  const of = { score: "the scores of the chosen", softmax: "softmax of the chosen logits", sigmoid: "sigmoid of the chosen logits", sparsemixer: "sparsemixer, each a softmax over the logits close to its own" }[weight];
  const sum = normalize === undefined ? "" : normalize.p === 1 ? ", divided by their sum" : `, divided by their ${normalize.p}-norm`;
  return `${of}${sum}${scale === 1 ? "" : `, times ${scale}`}`;
}

function capacity({ capacity: limit }: RouterConfig): string[] {
  if (limit === undefined) return [];
  const { train, eval: run, drop } = limit;
  return [`each expert takes at most ${train === run ? run : `${run} (in training ${train})`} times its fair share of the tokens, the rest is dropped by ${drop}`];
}
