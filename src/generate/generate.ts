import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check, checkAborted } from "../errors.js";
import { checkOptions, show } from "../options.js";
import { KvCache, type KvType } from "../model/cache.js";
import { checkLanguageModel, type LanguageModel } from "../model/language-model.js";
import { forward, forwardInTurns, logits } from "../model/transformer.js";
import { gatherRows } from "../ops/index.js";
import type { Routing } from "../routing/types.js";
import { checkSeed } from "../tensor/random.js";
import { checkSampling, samplingOptions, type SamplingOptions } from "./sampler.js";
import { PassCost } from "./pass-cost.js";
import { routingReader, type TokenRoute } from "./routing-record.js";
import { type Answered, type Context, Sequence } from "./sequence.js";

export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to generate per prompt. Default: up to the model's context. */
  maxTokens?: number | undefined;
  /** Texts that end an answer and are not part of it. */
  stop?: string | readonly string[] | undefined;
  /** Seed of the sampler, one for all prompts or one for each. Default 1. */
  seed?: number | readonly number[] | undefined;
  /**
   * Guesses up to so many tokens ahead where the text repeats itself, and checks them in one pass: the same tokens, sooner. Default 0. Models
   * with recurrent layers make no guesses, nor do those whose router may choose by the other tokens too: expert choice, a capacity, one of your own.
   */
  lookup?: number | undefined;
  /** Type of the keys and values kept of the tokens. Default: f16 for a model with quantised weights, f32 for others. A session has its own. */
  kv?: KvType | undefined;
  /** f32: activations are not rounded to bf16 for products with weights of that type. */
  precision?: "f32" | undefined;
  /** Adds the routing of every token, the prompt's included. */
  trace?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/** One token of an answer. `text`: what it completes, perhaps nothing; `finish`: why it is the last. */
export interface Chunk extends Answered {
  /** Index of the prompt that it continues. */
  sequence: number;
  /** With `trace`: the tokens run for this one, in order: the whole prompt, then the previous token each. */
  routing?: TokenRoute[];
}

/** Text, or token ids, which are taken as they are: without the tokenizer's prefix. */
export type Prompt = string | Int32Array;

export const generateOptions: Record<keyof GenerateOptions, true> = {
  ...samplingOptions, maxTokens: true, stop: true, seed: true, lookup: true, kv: true, precision: true, trace: true, signal: true,
};

/** Tokens of each prompt that run at a time. */
export const prefillTokens = 512;

/** A pass of so many tokens may take long: others have their turns between its layers, where a signal is noticed. */
const longPass = 16;

/** Memory for the values of a step comes in regions of so many bytes. What is reserved counts as taken, and a server may give many answers at a time. */
const regionBytes = 2 ** 24;

/**
 * Continues a prompt, or several in one batch, one chunk per token, until `maxTokens`, a stop sequence, the end-of-text token or
 * the end of the context. A prompt's answer does not depend on the others, unless a router's choice does (expert choice).
 * Throws ERR_SWITCHYARD_USAGE for a prompt that is empty or longer than the context, ERR_SWITCHYARD_ABORTED.
 */
export async function* generate(model: LanguageModel, prompt: Prompt | readonly Prompt[], options: GenerateOptions = {}): AsyncGenerator<Chunk> {
  checkLanguageModel("generate", model);
  checkOptions("generate", options, generateOptions);
  const { engine, config } = model;
  const caches: KvCache[] = [];
  try {
    check(!(Array.isArray(prompt) && prompt.length === 0), "ERR_SWITCHYARD_USAGE", () => "generate: expected a prompt, or several, got an empty list");
    const prompts = (Array.isArray(prompt) ? prompt : [prompt]).map((p: Prompt) => promptIds(model, p));
    const sequences = prompts.map((ids, i) => {
      const capacity = Math.min(config.context, ids.length + mostTokens(options));
      caches.push(new KvCache(engine, config, capacity, kvType(model, options.kv)));
      return newSequence(model, { cache: caches[i] as KvCache, tokens: [], version: model.parameters.version }, ids, options, i);
    });
    yield* run(model, sequences, options);
  } finally {
    for (const cache of caches) cache[Symbol.dispose]();
  }
}

/** The type that is wanted, or the model's. Throws ERR_SWITCHYARD_USAGE. */
export function kvType({ kv }: LanguageModel, wanted: KvType = kv): KvType {
  check(wanted === "f16" || wanted === "f32", "ERR_SWITCHYARD_USAGE", () => `generate: kv: expected "f32" or "f16", got "${wanted}"`);
  return wanted;
}

/** The ids of a prompt, checked. */
export function promptIds({ config, tokenizer }: LanguageModel, prompt: Prompt): number[] {
  if (typeof prompt === "string") {
    check(tokenizer !== undefined, "ERR_SWITCHYARD_USAGE", () => "generate: the model has no tokenizer; give token ids, or load it from a folder with a tokenizer.json or a GGUF file with a vocabulary");
    prompt = Int32Array.from([...tokenizer.prefix, ...tokenizer.encode(prompt)]);
  }
  const isNumbers = ArrayBuffer.isView(prompt) && Array.prototype.every.call(prompt, (id) => typeof id === "number") && !((prompt as unknown) instanceof DataView);
  check(isNumbers, "ERR_SWITCHYARD_USAGE", () => `generate: expected a text or an Int32Array of token ids as a prompt, or a list of such, got ${show(prompt)}`);
  const unknown = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= config.vocab);
  check(unknown === undefined, "ERR_SWITCHYARD_USAGE", () => `generate: expected token ids from 0 to ${config.vocab - 1}, got ${unknown}`);
  check(prompt.length > 0, "ERR_SWITCHYARD_USAGE", () => "generate: the prompt is empty; give it at least one character");
  check(prompt.length < config.context, "ERR_SWITCHYARD_USAGE", () => `generate: the prompt has ${prompt.length} tokens and leaves no room in the model's context of ${config.context}; shorten it`);
  return [...prompt];
}

function mostTokens({ maxTokens = Infinity }: GenerateOptions): number {
  check(maxTokens === Infinity || (Number.isInteger(maxTokens) && maxTokens >= 1), "ERR_SWITCHYARD_USAGE", () => `generate: maxTokens: expected an integer of at least 1, got ${show(maxTokens)}`);
  return maxTokens;
}

/** Checks `options` and begins sequence number `index`. */
export function newSequence(model: LanguageModel, context: Context, prompt: readonly number[], options: GenerateOptions, index: number): Sequence {
  const { stop = [], seed = 1, lookup = 0, kv: _, precision, ...sampling } = options;
  checkSampling(sampling, model.config.vocab);
  check(Number.isInteger(lookup) && lookup >= 0 && lookup <= prefillTokens, "ERR_SWITCHYARD_USAGE", () => `generate: lookup: expected an integer from 0 to ${prefillTokens}, got ${show(lookup)}`);
  check(precision === undefined || precision === "f32", "ERR_SWITCHYARD_USAGE", () => `generate: precision: expected "f32" or none, got "${String(precision)}"`);
  const stops = typeof stop === "string" ? [stop] : stop;
  check(Array.isArray(stops) && stops.every((text) => typeof text === "string" && text !== ""), "ERR_SWITCHYARD_USAGE", () => `generate: stop: expected texts of at least one character, got ${show(stop)}`);
  const own = Array.isArray(seed) ? (seed as readonly number[])[index] : seed;
  check(own !== undefined, "ERR_SWITCHYARD_USAGE", () => `generate: seed: expected one for each prompt, got ${show(seed)}`);
  return new Sequence(context, prompt, model, { ...sampling, maxTokens: mostTokens(options), lookup, stop: stops, seed: checkSeed(own as number) });
}

/** Runs sequences in one batch until all are finished. */
export async function* run(model: LanguageModel, sequences: readonly Sequence[], { trace = false, precision, signal }: GenerateOptions): AsyncGenerator<Chunk> {
  using arena = new Arena(model.engine, regionBytes);
  const cost = new PassCost();
  const routes = sequences.map((): TokenRoute[] => []);
  for (;;) {
    const active = sequences.map((sequence, index) => ({ sequence, index })).filter(({ sequence }) => !sequence.finished);
    if (active.length === 0) return;
    checkAborted(signal, "generate");
    arena.reset();
    const runs = active.map(({ sequence, index }) => nextRun(sequence, index, cost.leastLikely));
    const start = performance.now();
    const { logitsOf, routings } = await step(model, new Tape(model.engine, arena, { precision }), runs, () => checkAborted(signal, "generate"));
    const time = performance.now() - start;
    const readRoutes = trace ? routingReader(model, routings) : undefined;
    let row = 0;
    let answers = 0;
    for (const { sequence, index, tokens, guesses } of runs) {
      const all = [...tokens, ...guesses];
      const read = readRoutes?.(all, row, sequence.context.tokens.length);
      row += all.length;
      sequence.ran(tokens.length);
      for (const route of read?.splice(0, tokens.length) ?? []) routes[index].push(route);
      for (let right = 0; sequence.pending.length === 0; right++) {
        const answered = sequence.next(logitsOf(row - 1 - guesses.length + right));
        answers++;
        yield { sequence: index, ...answered, ...(trace ? { routing: routes[index].splice(0) } : {}) };
        // The token after the next one is known too if the guess at this one was right.
        if (sequence.finished || answered.token !== guesses[right]) {
          sequence.forgetGuesses();
          break;
        }
        sequence.ran(1);
        if (read !== undefined) routes[index].push(...read.splice(0, 1));
      }
    }
    if (runs.every(({ tokens }) => tokens.length === 1)) cost.record(row, time, answers);
    await new Promise(setImmediate); // a token is a long time for whoever shares the event loop
  }
}

interface Run {
  sequence: Sequence;
  index: number;
  /** Pending tokens to run. */
  tokens: readonly number[];
  /** Tokens that may follow, run with them. */
  guesses: readonly number[];
}

function nextRun(sequence: Sequence, index: number, leastLikely: number): Run {
  sequence.prepare();
  const tokens = sequence.pending.slice(0, sequence.context.cache.keeps ? prefillTokens : undefined);
  return { sequence, index, tokens, guesses: tokens.length === sequence.pending.length ? sequence.guess(leastLikely) : [] };
}

/** Runs the tokens and guesses of each sequence; `afterTurn` is called between the layers of a long pass. `logitsOf(row)`: of the last of a run's tokens and of its guesses, by their rows in the batch. */
async function step(model: LanguageModel, tape: Tape, runs: readonly Run[], afterTurn: () => void): Promise<{ logitsOf: (row: number) => ArrayLike<number>; routings: Routing[] }> {
  const { engine, config } = model;
  const ids = runs.flatMap(({ tokens, guesses }) => [...tokens, ...guesses]);
  const batch = runs.map(({ sequence, tokens, guesses }) => ({ cache: sequence.context.cache, length: tokens.length + guesses.length }));
  const input = { ids: tape.constant([ids.length], ids, "i32"), batch };
  const { hidden, routings } = ids.length < longPass ? forward(tape, model, input) : await forwardInTurns(tape, model, input, afterTurn);
  let end = 0;
  const rows = runs.flatMap(({ tokens, guesses }) => {
    end += tokens.length + guesses.length;
    return Array.from({ length: guesses.length + 1 }, (_, i) => end - 1 - guesses.length + i);
  });
  const logits_RV = engine.read(logits(tape, model, gatherRows(tape, hidden, tape.constant([rows.length], rows, "i32"))));
  return { logitsOf: (row) => logits_RV.subarray(rows.indexOf(row) * config.vocab, (rows.indexOf(row) + 1) * config.vocab), routings };
}
