import { Tape } from "../autograd/tape.js";
import type { TokenBatch } from "../data/index.js";
import { Arena } from "../engine/arena.js";
import { checkAborted } from "../errors.js";
import type { LanguageModel } from "../model/language-model.js";
import { forward, logits } from "../model/transformer.js";
import type { Routing } from "../routing/types.js";
import { type Choices, weightsByExpert } from "./compare.js";

/** How far a model is from the one that it was made of, on a text. */
export interface Drift {
  tokens: number;
  perplexity: { before: number; after: number };
  /** Mean over the tokens of KL(before || after) of the next token's distribution, in nats. */
  klDivergence: number;
  /** Share of the tokens where both find the same next token most likely. */
  sameTop: number;
  routers: RouterDrift[];
}

interface RouterDrift {
  layer: number;
  /** Mean share of a token's experts that are chosen still. */
  agreement: number;
  /** Sum of the differences of the experts' weights, in magnitude, over the sum of the weights. */
  weightError: number;
}

/** Runs both models on the same windows. Throws ERR_SWITCHYARD_ABORTED. */
export async function measureDrift(before: LanguageModel, after: LanguageModel, windows: Iterable<TokenBatch>, signal?: AbortSignal): Promise<Drift> {
  const { sparseLayers, vocab } = before.config;
  const total = { tokens: 0, before: 0, after: 0, divergence: 0, same: 0 };
  const routers = sparseLayers.map((layer) => ({ layer, chosen: 0, common: 0, weight: 0, difference: 0 }));
  for (const window of windows) {
    // Lets a Ctrl-C through.
    await new Promise(setImmediate);
    checkAborted(signal, "measure drift");
    const [x, y] = [run(before, window), run(after, window)];
    window.targets.forEach((target, t) => {
      const row = compareRows(x.logits.subarray(t * vocab, (t + 1) * vocab), y.logits.subarray(t * vocab, (t + 1) * vocab), target);
      total.before += row.before;
      total.after += row.after;
      total.divergence += row.divergence;
      total.same += Number(row.same);
    });
    total.tokens += window.targets.length;
    routers.forEach((sums, i) => addRouting(sums, x.routings[i] as Choices, y.routings[i] as Choices));
  }
  const { tokens } = total;
  return {
    tokens,
    perplexity: { before: Math.exp(total.before / tokens), after: Math.exp(total.after / tokens) },
    klDivergence: total.divergence / tokens,
    sameTop: total.same / tokens,
    routers: routers.map(({ layer, chosen, common, weight, difference }) => ({ layer, agreement: chosen === 0 ? 1 : common / chosen, weightError: difference === 0 ? 0 : difference / weight })),
  };
}

function run(model: LanguageModel, { inputs, batch }: TokenBatch): { logits: Float32Array; routings: Choices[] } {
  const { engine } = model;
  using arena = new Arena(engine);
  const tape = new Tape(engine, arena);
  const { hidden, routings } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch });
  const decision = ({ experts, weights }: Routing): Choices => ({ experts: engine.read(experts), weights: engine.read(weights), k: experts.cols });
  return { logits: engine.read(logits(tape, model, hidden)) as Float32Array, routings: routings.map(decision) };
}

/** Cross-entropies of a target under two rows of logits, and KL divergence of the second distribution from the first. */
function compareRows(x: Float32Array, y: Float32Array, target: number): { before: number; after: number; divergence: number; same: boolean } {
  let [i, j] = [0, 0];
  for (let v = 1; v < x.length; v++) {
    if ((x[v] as number) > (x[i] as number)) i = v;
    if ((y[v] as number) > (y[j] as number)) j = v;
  }
  const [topX, topY] = [x[i] as number, y[j] as number];
  let [sumX, sumY, weighted] = [0, 0, 0];
  for (let v = 0; v < x.length; v++) {
    const p = Math.exp((x[v] as number) - topX);
    sumX += p;
    sumY += Math.exp((y[v] as number) - topY);
    weighted += p * ((x[v] as number) - (y[v] as number));
  }
  const [lseX, lseY] = [topX + Math.log(sumX), topY + Math.log(sumY)];
  return { before: lseX - (x[target] as number), after: lseY - (y[target] as number), divergence: Math.max(0, weighted / sumX - lseX + lseY), same: i === j };
}

function addRouting(sums: { chosen: number; common: number; weight: number; difference: number }, before: Choices, after: Choices): void {
  const tokens = before.experts.length / before.k;
  for (let t = 0; t < tokens; t++) {
    const [was, is] = [weightsByExpert(before, t), weightsByExpert(after, t)];
    for (const [expert, weight] of was) {
      sums.chosen++;
      sums.common += Number(is.has(expert));
      sums.weight += Math.abs(weight);
      sums.difference += Math.abs(weight - (is.get(expert) ?? 0));
    }
    for (const [expert, weight] of is) if (!was.has(expert)) sums.difference += Math.abs(weight);
  }
}
