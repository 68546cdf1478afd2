import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check, SwitchyardError } from "../errors.js";
import { KvCache } from "../model/cache.js";
import type { LanguageModel } from "../model/language-model.js";
import { forward, logits } from "../model/transformer.js";
import { gatherRows } from "../ops/index.js";
import type { Routing } from "../routing/types.js";
import { checkSeed } from "../tensor/random.js";
import { checkSampling, type SamplingOptions } from "./sampler.js";
import { routingReader, type TokenRoute } from "./routing-record.js";
import { type Answered, type Context, Sequence } from "./sequence.js";

export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to generate per prompt. Default: up to the model's context. */
  maxTokens?: number;
  /** Texts that end an answer and are not part of it. */
  stop?: string | readonly string[];
  /** Seed of the sampler, one for all prompts or one for each. Default 1. */
  seed?: number | readonly number[];
  /** Adds the routing of every token, the prompt's included. */
  trace?: boolean;
  signal?: AbortSignal;
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

/** Tokens of each prompt that run at a time: a signal is noticed in between. */
export const prefillTokens = 256;

/**
 * Continues a prompt, or several in one batch, one chunk per token, until `maxTokens`, a stop sequence, the end-of-text token or
 * the end of the context. A prompt's answer does not depend on the others, unless a router's choice does (expert choice).
 * Throws ERR_SWITCHYARD_USAGE for a prompt that is empty or longer than the context, ERR_SWITCHYARD_ABORTED.
 */
export async function* generate(model: LanguageModel, prompt: Prompt | readonly Prompt[], options: GenerateOptions = {}): AsyncGenerator<Chunk> {
  const { engine, config } = model;
  const caches: KvCache[] = [];
  try {
    const prompts = (Array.isArray(prompt) ? prompt : [prompt]).map((p: Prompt) => promptIds(model, p));
    const sequences = prompts.map((ids, i) => {
      const capacity = Math.min(config.context, ids.length + (options.maxTokens ?? config.context));
      caches.push(new KvCache(engine, config, capacity));
      return newSequence(model, { cache: caches[i] as KvCache, tokens: [] }, ids, options, i);
    });
    yield* run(model, sequences, options);
  } finally {
    for (const cache of caches) cache[Symbol.dispose]();
  }
}

/** The ids of a prompt, checked. */
export function promptIds({ config, tokenizer }: LanguageModel, prompt: Prompt): number[] {
  if (typeof prompt === "string") {
    check(tokenizer !== undefined, "ERR_SWITCHYARD_USAGE", () => "generate: the model has no tokenizer; give token ids, or load it from a folder with a tokenizer.json or a GGUF file with a vocabulary");
    prompt = Int32Array.from([...tokenizer.prefix, ...tokenizer.encode(prompt)]);
  }
  const unknown = prompt.find((id) => id < 0 || id >= config.vocab);
  check(unknown === undefined, "ERR_SWITCHYARD_USAGE", () => `generate: expected token ids from 0 to ${config.vocab - 1}, got ${unknown}`);
  check(prompt.length > 0, "ERR_SWITCHYARD_USAGE", () => "generate: the prompt is empty; give it at least one character");
  check(prompt.length < config.context, "ERR_SWITCHYARD_USAGE", () => `generate: the prompt has ${prompt.length} tokens and leaves no room in the model's context of ${config.context}; shorten it`);
  return [...prompt];
}

/** Checks `options` and begins sequence number `index`. */
export function newSequence(model: LanguageModel, context: Context, prompt: readonly number[], options: GenerateOptions, index: number): Sequence {
  const { maxTokens = Infinity, stop = [], seed = 1, ...sampling } = options;
  checkSampling(sampling, model.config.vocab);
  check(maxTokens === Infinity || (Number.isInteger(maxTokens) && maxTokens >= 1), "ERR_SWITCHYARD_USAGE", () => `generate: maxTokens: expected an integer of at least 1, got ${maxTokens}`);
  const stops = typeof stop === "string" ? [stop] : stop;
  check(!stops.includes(""), "ERR_SWITCHYARD_USAGE", () => "generate: a stop sequence is empty");
  return new Sequence(context, prompt, model, { ...sampling, maxTokens, stop: stops, seed: checkSeed(typeof seed === "number" ? seed : (seed[index] ?? NaN)) });
}

/** Runs sequences in one batch until all are finished. */
export async function* run(model: LanguageModel, sequences: readonly Sequence[], { trace = false, signal }: GenerateOptions): AsyncGenerator<Chunk> {
  using arena = new Arena(model.engine);
  const routes = sequences.map((): TokenRoute[] => []);
  for (;;) {
    const active = sequences.map((sequence, index) => ({ sequence, index })).filter(({ sequence }) => !sequence.finished);
    if (active.length === 0) return;
    if (signal?.aborted === true) throw new SwitchyardError("ERR_SWITCHYARD_ABORTED", "generate: aborted by the caller", { cause: signal.reason });
    arena.reset();
    const runs = active.map(({ sequence, index }) => ({ sequence, index, tokens: sequence.pending.slice(0, prefillTokens) }));
    const { lastLogits, routings } = step(model, new Tape(model.engine, arena), runs);
    const readRoutes = trace ? routingReader(model, routings) : undefined;
    let row = 0;
    for (const [i, { sequence, index, tokens }] of runs.entries()) {
      if (readRoutes !== undefined) routes[index].push(...readRoutes(tokens, row, sequence.context.tokens.length));
      row += tokens.length;
      sequence.ran(tokens.length);
      if (sequence.pending.length > 0) continue;
      const answered = sequence.next(lastLogits(i));
      yield { sequence: index, ...answered, ...(trace ? { routing: routes[index].splice(0) } : {}) };
    }
    await new Promise(setImmediate); // a token is a long time for whoever shares the event loop
  }
}

/** Runs `tokens` of each sequence; `lastLogits(i)` are those of the last token of run i. */
function step(model: LanguageModel, tape: Tape, runs: readonly { sequence: Sequence; tokens: readonly number[] }[]): { lastLogits: (i: number) => ArrayLike<number>; routings: Routing[] } {
  const { engine, config } = model;
  const ids = runs.flatMap(({ tokens }) => tokens);
  const batch = runs.map(({ sequence, tokens }) => ({ cache: sequence.context.cache, length: tokens.length }));
  const { hidden, routings } = forward(tape, model, { ids: tape.constant([ids.length], ids, "i32"), batch });
  let end = 0;
  const last = runs.map(({ tokens }) => (end += tokens.length) - 1);
  const logits_BV = engine.read(logits(tape, model, gatherRows(tape, hidden, tape.constant([last.length], last, "i32"))));
  return { lastLogits: (i) => logits_BV.subarray(i * config.vocab, (i + 1) * config.vocab), routings };
}
