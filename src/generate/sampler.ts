import { check } from "../errors.js";
import type { Random } from "../tensor/random.js";

export interface SamplingOptions {
  /** 0: always the most likely token. Default 0.8. */
  temperature?: number;
  /** Only the k most likely tokens take part. Default: all. */
  topK?: number;
  /** Only the fewest tokens whose probabilities reach this sum take part (Holtzman et al. 2020). Default 1. */
  topP?: number;
}

/** Throws ERR_SWITCHYARD_USAGE naming the option. */
export function checkSampling({ temperature = 0, topK = 1, topP = 1 }: SamplingOptions): void {
  const require = (condition: boolean, message: string) => check(condition, "ERR_SWITCHYARD_USAGE", () => `sampling: ${message}`);
  require(temperature >= 0 && Number.isFinite(temperature), `temperature must be a number of at least 0, got ${temperature}`);
  require(Number.isInteger(topK) && topK >= 1, `top-k must be a positive integer, got ${topK}`);
  require(topP > 0 && topP <= 1, `top-p must be above 0 and at most 1, got ${topP}`);
}

/** The next token for logits [V]; the first of equals. */
export function sample(logits: ArrayLike<number>, { temperature = 0.8, topK, topP = 1 }: SamplingOptions, random: Random): number {
  if (temperature === 0) return argmax(logits);
  const order = Array.from(logits, (_, i) => i).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
  const best = logits[order[0] as number] as number;
  const kept = order.slice(0, topK);
  const weights = kept.map((i) => Math.exp(((logits[i] as number) - best) / temperature));
  const total = weights.reduce((sum, w) => sum + w, 0);
  let mass = 0;
  const size = weights.findIndex((w) => (mass += w) >= topP * total) + 1 || weights.length;
  let left = random.float() * weights.slice(0, size).reduce((sum, w) => sum + w, 0);
  for (let i = 0; i < size; i++) {
    left -= weights[i] as number;
    if (left < 0) return kept[i] as number;
  }
  return kept[size - 1] as number;
}

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}
