import { Tape } from "../../autograd/tape.js";
import { evaluationWindows, type Tokens } from "../../data/index.js";
import { Arena } from "../../engine/arena.js";
import type { LanguageModel } from "../../model/language-model.js";
import { forward } from "../../model/transformer.js";

/** How often tokens of each kind chose each expert of one layer. */
export interface LayerUse {
  layer: number;
  /** Choices [kind][expert]. */
  choices: number[][];
}

/** Runs the model over whole windows of `tokens` and counts choices by the kind of the token; `kind` is an index per token. */
export function expertUse(model: LanguageModel, tokens: Tokens, kind: Uint8Array, kindCount: number): LayerUse[] {
  const { engine, config } = model;
  const experts = config.moe?.experts ?? 0;
  const uses = config.sparseLayers.map((layer) => ({ layer, choices: Array.from({ length: kindCount }, () => new Array<number>(experts).fill(0)) }));
  using arena = new Arena(engine);
  let first = 0;
  for (const { inputs, batch } of evaluationWindows(tokens, { context: config.context, batch: 8 })) {
    arena.reset();
    const tape = new Tape(engine, arena);
    const { routings } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch });
    routings.forEach((routing, i) => {
      const chosen = engine.read(routing.experts);
      const k = routing.experts.cols;
      for (let slot = 0; slot < chosen.length; slot++) {
        const expert = chosen[slot] as number;
        const counts = uses[i]?.choices[kind[first + Math.floor(slot / k)] as number] as number[];
        if (expert >= 0) counts[expert] = (counts[expert] as number) + 1;
      }
    });
    first += inputs.length;
  }
  return uses;
}

const sum = (values: readonly number[]): number => values.reduce((total, n) => total + n, 0);

/** Share of each kind's choices that each expert got [kind][expert]; NaN for a kind that does not occur. */
export function shares({ choices }: LayerUse): number[][] {
  return choices.map((row) => row.map((n) => n / sum(row)));
}

export interface Specialisation {
  layer: number;
  expert: number;
  /** Index of the kind. */
  kind: number;
  /** Share of the kind's choices that the expert got, and of all choices. */
  ofKind: number;
  ofAll: number;
}

/** Rarer kinds say little. */
const leastShare = 0.005;

/**
 * Each kind's most telling expert over all layers, the strongest first: where the kind's choices differ most from everybody's, as the
 * largest term of the divergence between the two (p log p/q).
 */
export function strongest(uses: readonly LayerUse[], count: number): Specialisation[] {
  const kindCount = uses[0]?.choices.length ?? 0;
  const candidates = uses.flatMap((use) => {
    const total = sum(use.choices.map(sum));
    const share = shares(use);
    return use.choices.flatMap((row, kind) =>
      sum(row) < leastShare * total ? [] : row.map((_, expert) => ({ layer: use.layer, expert, kind, ofKind: share[kind]?.[expert] as number, ofAll: sum(use.choices.map((r) => r[expert] as number)) / total })),
    );
  });
  const score = ({ ofKind, ofAll }: Specialisation) => (ofKind === 0 ? 0 : ofKind * Math.log(ofKind / ofAll));
  const ranked = candidates.sort((a, b) => score(b) - score(a));
  return Array.from({ length: kindCount }, (_, kind) => ranked.find((c) => c.kind === kind))
    .filter((c) => c !== undefined)
    .sort((a, b) => score(b) - score(a))
    .slice(0, count);
}

/** Mutual information of expert and kind over the entropy of the kinds: how much of a token's kind its expert gives away, 0 to 1. */
export function revealed({ choices }: LayerUse): number {
  const total = sum(choices.map(sum));
  const plogp = (n: number) => (n === 0 ? 0 : (n / total) * Math.log(n / total));
  const kindEntropy = -sum(choices.map((row) => plogp(sum(row))));
  const expertEntropy = -sum((choices[0] ?? []).map((_, e) => plogp(sum(choices.map((row) => row[e] as number)))));
  const joint = -sum(choices.flat().map(plogp));
  return (kindEntropy + expertEntropy - joint) / kindEntropy;
}
