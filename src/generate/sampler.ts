import { check, SwitchyardError } from "../errors.js";
import { show } from "../options.js";
import type { Random } from "../tensor/random.js";

/**
 * Applied in the order of Hugging Face transformers: logit bias, penalties, temperature, top-k, top-p, min-p.
 * (vLLM's min-p comes before top-k. llama.cpp applies the temperature last: at temperatures other than 1 its top-p keeps other tokens.)
 */
export interface SamplingOptions {
  /** 0: always the most likely token. Default 0.8. */
  temperature?: number | undefined;
  /** Only the k most likely tokens take part. Default: all. */
  topK?: number | undefined;
  /** Only the fewest tokens whose probabilities reach this sum take part (Holtzman et al. 2020). Default 1. */
  topP?: number | undefined;
  /** Only tokens at least this fraction as likely as the likeliest take part (Nguyen et al. 2024). Default 0. */
  minP?: number | undefined;
  /** Divides positive logits of tokens that occur in the prompt or the answer, multiplies negative ones (Keskar et al. 2019). Default 1. */
  repetitionPenalty?: number | undefined;
  /** Subtracted from the logits of tokens that occur in the answer, as in OpenAI's API. Default 0. */
  presencePenalty?: number | undefined;
  /** Subtracted from a token's logit for each of its occurrences in the answer. Default 0. */
  frequencyPenalty?: number | undefined;
  /** Token id -> number added to its logit; -Infinity forbids it. */
  logitBias?: Readonly<Record<number, number>> | undefined;
}

export const samplingOptions: Record<keyof SamplingOptions, true> = {
  temperature: true, topK: true, topP: true, minP: true, repetitionPenalty: true, presencePenalty: true, frequencyPenalty: true, logitBias: true,
};

/** The tokens that penalties look at. */
interface History {
  /** Of the prompt and the answer. */
  readonly seen: ReadonlySet<number>;
  /** Occurrences in the answer. */
  readonly answered: ReadonlyMap<number, number>;
}

/** Throws ERR_SWITCHYARD_USAGE naming the option. */
export function checkSampling(options: SamplingOptions, vocab: number): void {
  const { temperature = 0, topK = 1, topP = 1, minP = 0, repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias = {} } = options;
  const require = (condition: boolean, message: string) => check(condition, "ERR_SWITCHYARD_USAGE", () => `sampling: ${message}`);
  require(temperature >= 0 && Number.isFinite(temperature), `temperature: expected a number of at least 0, got ${show(temperature)}`);
  require(Number.isInteger(topK) && topK >= 1, `topK: expected an integer of at least 1, got ${show(topK)}`);
  require(Number.isFinite(topP) && topP > 0 && topP <= 1, `topP: expected a number above 0 and at most 1, got ${show(topP)}`);
  require(Number.isFinite(minP) && minP >= 0 && minP <= 1, `minP: expected a number from 0 to 1, got ${show(minP)}`);
  require(repetitionPenalty > 0 && Number.isFinite(repetitionPenalty), `repetitionPenalty: expected a number above 0, got ${show(repetitionPenalty)}`);
  require(Number.isFinite(presencePenalty), `presencePenalty: expected a number, got ${show(presencePenalty)}`);
  require(Number.isFinite(frequencyPenalty), `frequencyPenalty: expected a number, got ${show(frequencyPenalty)}`);
  require(typeof logitBias === "object" && logitBias !== null && !(logitBias instanceof Map), `logitBias: expected an object with token ids as keys, got ${logitBias instanceof Map ? "a Map; use Object.fromEntries" : show(logitBias)}`);
  for (const [id, bias] of Object.entries(logitBias)) {
    require(/^\d+$/.test(id) && Number(id) < vocab, `logitBias: expected token ids from 0 to ${vocab - 1}, got ${id}`);
    require(typeof bias === "number" && bias < Infinity, `logitBias: expected a number or -Infinity for token ${id}, got ${show(bias)}`);
  }
}

/** Logits [V] with bias and penalties: a copy, where there are any. */
export function penalise(logits: ArrayLike<number>, options: SamplingOptions, { seen, answered }: History): ArrayLike<number> {
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias } = options;
  if (repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0 && logitBias === undefined) return logits;
  const out = new Float64Array(logits);
  for (const [id, bias] of Object.entries(logitBias ?? {})) out[Number(id)] += bias;
  if (repetitionPenalty !== 1) for (const id of seen) out[id] = out[id] > 0 ? out[id] / repetitionPenalty : out[id] * repetitionPenalty;
  for (const [id, count] of answered) out[id] -= presencePenalty + count * frequencyPenalty;
  return out;
}

/** The next token for logits [V]: of equally likely ones the lowest id comes first. Throws ERR_SWITCHYARD_DIVERGED for logits that are no numbers. */
export function sample(logits: ArrayLike<number>, { temperature = 0.8, topK, topP = 1, minP = 0 }: SamplingOptions, random: Random): number {
  const best = argmax(logits);
  if (temperature === 0) return best;
  const weight = (id: number) => Math.exp((logits[id] - logits[best]) / temperature);
  const falling = inFallingOrder(logits);
  const top = topK === undefined ? undefined : Array.from({ length: Math.min(topK, logits.length) }, () => falling.next().value as number);
  const candidates = top ?? falling;
  const total = top?.reduce((sum, id) => sum + weight(id), 0) ?? totalWeight(logits, weight);
  if (topP === 1 && minP === 0) return draw(candidates, weight, random.float() * total);

  const kept: number[] = [];
  let mass = 0;
  for (const id of candidates) {
    const w = weight(id);
    if (w < minP || (topP < 1 && mass >= topP * total)) break;
    kept.push(id);
    mass += w;
  }
  return draw(kept, weight, random.float() * mass);
}

/** The first of `ids`, which come by falling weight, at which the sum of weights exceeds `left`. */
function draw(ids: Iterable<number>, weight: (id: number) => number, left: number): number {
  let last = 0;
  for (const id of ids) {
    const w = weight(id);
    if (w === 0) break; // rounding left a little over
    last = id;
    left -= w;
    if (left < 0) break;
  }
  return last;
}

function totalWeight(logits: ArrayLike<number>, weight: (id: number) => number): number {
  let total = 0;
  for (let id = 0; id < logits.length; id++) total += weight(id);
  return total;
}

/** Ids by falling logit, lazily: a heap of all, O(V), then O(log V) for each that is asked for. Sorting 150,000 would cost ten times that. */
export function* inFallingOrder(logits: ArrayLike<number>): Generator<number> {
  const heap = new Int32Array(logits.length);
  for (let id = 0; id < heap.length; id++) heap[id] = id;
  for (let at = (heap.length >> 1) - 1; at >= 0; at--) sink(heap, heap.length, at, logits);
  for (let size = heap.length; size > 0; ) {
    yield heap[0];
    heap[0] = heap[--size];
    sink(heap, size, 0, logits);
  }
}

/** Lets the id at `at` sink to where no id below it has a larger logit. */
function sink(heap: Int32Array, size: number, at: number, logits: ArrayLike<number>): void {
  const id = heap[at];
  for (let child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && comesBefore(heap[child + 1], heap[child], logits)) child++;
    if (!comesBefore(heap[child], id, logits)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = id;
}

function comesBefore(a: number, b: number, logits: ArrayLike<number>): boolean {
  return logits[a] > logits[b] || (logits[a] === logits[b] && a < b);
}

function argmax(logits: ArrayLike<number>): number {
  let best = 0;
  let most = -Infinity;
  let nan = 0;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i];
    if (logit <= most) continue;
    if (Number.isNaN(logit)) nan++;
    else [best, most] = [i, logit];
  }
  const isNumber = nan === 0 && Number.isFinite(logits[best]);
  if (isNumber) return best;
  const given = nan > 0 ? `${nan} of ${logits.length} are NaN` : `the largest is ${logits[best]}`;
  throw new SwitchyardError("ERR_SWITCHYARD_DIVERGED", `sampling: expected finite logits, but ${given}; the weights are broken, or the logit bias forbids every token`);
}
