import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check, SwitchyardError } from "../errors.js";
import { KvCache } from "../model/cache.js";
import type { LanguageModel } from "../model/language-model.js";
import { forward, logits } from "../model/transformer.js";
import type { Routing } from "../routing/types.js";
import { Random } from "../tensor/random.js";
import { view } from "../tensor/tensor.js";
import { checkSampling, sample, type SamplingOptions } from "./sampler.js";

export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to generate. Default: up to the model's context. */
  maxTokens?: number;
  /** Seed of the sampler. Default 1. */
  seed?: number;
  /** Adds the routing of every token, the prompt's included. */
  trace?: boolean;
  signal?: AbortSignal;
}

/** One token's way through one sparse layer. */
export interface LayerRoute {
  layer: number;
  /** Best first; dropped ones are left out. */
  experts: number[];
  weights: number[];
}

export interface TokenRoute {
  token: number;
  text: string;
  layers: LayerRoute[];
}

export interface Chunk {
  token: number;
  /** Text completed by this token; may be empty while a character is incomplete. */
  text: string;
  /** With `trace`: the tokens run for this one, in order: the whole prompt, then the previous token each. */
  routing?: TokenRoute[];
}

/**
 * Continues `prompt`, one chunk per token, until `maxTokens`, the end-of-text token or the context is full.
 * Throws ERR_SWITCHYARD_USAGE for a prompt that is empty or longer than the context.
 */
export async function* generate(model: LanguageModel, prompt: string, options: GenerateOptions = {}): AsyncGenerator<Chunk> {
  checkSampling(options);
  const { engine, config, tokenizer } = model;
  check(tokenizer !== undefined, "ERR_SWITCHYARD_USAGE", () => "generate: the model has no tokenizer; load it from a folder with a tokenizer.json");
  const ids = [...tokenizer.prefix, ...tokenizer.encode(prompt)];
  check(ids.length > 0, "ERR_SWITCHYARD_USAGE", () => "generate: the prompt is empty; give it at least one character");
  check(ids.length < config.context, "ERR_SWITCHYARD_USAGE", () => `generate: the prompt has ${ids.length} tokens and leaves no room in the model's context of ${config.context}; shorten it`);
  const maxTokens = Math.min(options.maxTokens ?? Infinity, config.context - ids.length);
  const random = new Random(options.seed ?? 1);
  const stream = tokenizer.decodeStream();
  using arena = new Arena(engine);
  using cache = new KvCache(engine, config, 1, ids.length + maxTokens);
  for (let n = 0, pending = ids; n < maxTokens; n++) {
    if (options.signal?.aborted === true) throw new SwitchyardError("ERR_SWITCHYARD_ABORTED", "generate: aborted by the caller");
    arena.reset();
    const tape = new Tape(engine, arena);
    const { hidden, routings } = forward(tape, model, { ids: tape.constant([pending.length], pending, "i32"), batch: 1, cache });
    const last = view(hidden, [1, config.width], (pending.length - 1) * config.width);
    const token = sample(engine.read(logits(tape, model, last)), options, random);
    const routing = options.trace === true ? tokenRoutes(model, pending, routings) : undefined;
    const ended = token === tokenizer.eosId;
    const text = (ended ? "" : stream.push(token)) + (ended || n === maxTokens - 1 ? stream.end() : "");
    if (!ended || text !== "") yield { token, text, ...(routing === undefined ? {} : { routing }) };
    if (ended) return;
    pending = [token];
    await new Promise(setImmediate); // a token is a long time for whoever shares the event loop
  }
}

/** Which experts each of `tokens` was sent to, layer by layer. */
export function tokenRoutes(model: LanguageModel, tokens: readonly number[], routings: readonly Routing[]): TokenRoute[] {
  const { engine, config, tokenizer } = model;
  const layers = routings.map(({ experts, weights }, i) => ({ layer: config.sparseLayers[i] as number, k: experts.cols, experts: engine.read(experts), weights: engine.read(weights) }));
  return tokens.map((token, t) => ({
    token,
    text: tokenizer?.decode([token]) ?? "",
    layers: layers.map(({ layer, k, experts, weights }) => {
      const chosen = Array.from({ length: k }, (_, j) => t * k + j).filter((slot) => (experts[slot] as number) >= 0);
      return { layer, experts: chosen.map((slot) => experts[slot] as number), weights: chosen.map((slot) => weights[slot] as number) };
    }),
  }));
}
