import { check } from "../errors.js";
import type { KvCache } from "../model/cache.js";
import type { LanguageModel } from "../model/language-model.js";
import { Random } from "../tensor/random.js";
import type { DecodeStream } from "../tokenizer/tokenizer.js";
import { NgramLookup } from "./lookup.js";
import { penalise, sample, type SamplingOptions } from "./sampler.js";
import { StopMatcher } from "./stop.js";

/** A KV cache and the tokens that it stands for. */
export interface Context {
  cache: KvCache;
  tokens: number[];
  /** Of the model's parameters, when they were run. */
  version: number;
}

/** "stop": a token that ends texts or turns, or a stop sequence; "length": `maxTokens` or the model's context. */
type Finish = "stop" | "length";

export interface Answered {
  token: number;
  text: string;
  finish?: Finish;
}

/** The last tokens of a prompt that its continuation is decoded after: what a token says may depend on those before it. */
const decodedContext = 4;

interface SequenceOptions extends SamplingOptions {
  maxTokens: number;
  seed: number;
  stop: readonly string[];
  /** Most tokens to guess ahead; 0: none. */
  lookup: number;
}

/** A prompt and its answer so far: what is still to be run, and how each next token is chosen and becomes text. */
export class Sequence {
  /** Tokens that are not in the cache yet; the last one's logits give the next. */
  pending: number[];
  finished = false;
  readonly seen: Set<number>;
  readonly answered = new Map<number, number>();
  private count = 0;
  private readonly maxTokens: number;
  private readonly random: Random;
  private readonly stops: StopMatcher;
  private readonly stream: DecodeStream | undefined;
  private readonly endIds: ReadonlySet<number | undefined>;
  private readonly ngrams: NgramLookup | undefined;

  /** Keeps of `context` what it has in common with the prompt. */
  constructor(
    readonly context: Context,
    prompt: readonly number[],
    { config, router, tokenizer, parameters }: LanguageModel,
    private readonly options: SequenceOptions,
  ) {
    const { cache, tokens } = context;
    if (context.version !== parameters.version) tokens.length = 0; // what the cache has was computed with other weights
    context.version = parameters.version;
    let common = 0;
    while (common < prompt.length - 1 && tokens[common] === prompt[common]) common++;
    cache.expect(prompt.length);
    cache.truncate(common);
    tokens.length = cache.length;
    check(prompt.length < cache.capacity, "ERR_SWITCHYARD_USAGE", () => `generate: the prompt has ${prompt.length} tokens and leaves no room in the context of ${cache.capacity}; shorten it`);
    this.pending = prompt.slice(cache.length);
    this.seen = new Set(prompt);
    this.maxTokens = Math.min(options.maxTokens, cache.capacity - prompt.length);
    this.random = new Random(options.seed);
    this.stops = new StopMatcher(options.stop);
    this.endIds = new Set([tokenizer?.eosId, ...(tokenizer?.endIds ?? [])]);
    this.stream = tokenizer?.decodeStream();
    for (const id of prompt.slice(-decodedContext)) this.stream?.push(id);
    // A guess that was wrong has to be taken back from the cache, and must not have taken room at an expert from the token before it.
    const chooseAlone = router === undefined && config.moe?.router.capacity === undefined && config.moe?.router.selection !== "expert-choice";
    this.ngrams = options.lookup > 0 && chooseAlone && cache.rewinds && !cache.goesByLength ? new NgramLookup() : undefined;
    this.ngrams?.push(prompt);
  }

  /** Before the pending tokens are run: all of the text is pending again where it grows out of what the cache stands for. */
  prepare(): void {
    const { cache, tokens } = this.context;
    cache.expect(tokens.length + this.pending.length);
    this.pending = [...tokens.splice(cache.length), ...this.pending]; // as arguments of a call they could be too many
  }

  /** Tokens that may follow the pending ones, to be run with them, as long as they are likely enough. */
  guess(leastLikely: number): number[] {
    return this.ngrams?.guess(Math.min(this.options.lookup, this.maxTokens - this.count - 1), leastLikely) ?? [];
  }

  /** The cache forgets guesses that were wrong. */
  forgetGuesses(): void {
    this.context.cache.truncate(this.context.tokens.length);
  }

  /** `count` pending tokens have been run. */
  ran(count: number): void {
    for (const token of this.pending.splice(0, count)) this.context.tokens.push(token);
  }

  /** Chooses the next token by logits [V]. */
  next(logits: ArrayLike<number>): Answered {
    const token = sample(penalise(logits, this.options, this), this.options, this.random);
    this.pending.push(token);
    this.ngrams?.push([token]);
    this.seen.add(token);
    this.answered.set(token, (this.answered.get(token) ?? 0) + 1);
    this.count++;
    const ended = this.endIds.has(token);
    let text = ended ? "" : this.stops.push(this.stream?.push(token) ?? "");
    const finish = ended || this.stops.stopped ? "stop" : this.count === this.maxTokens ? "length" : undefined;
    if (finish === undefined) return { token, text };
    this.finished = true;
    text += this.stops.push(this.stream?.end() ?? "") + this.stops.end();
    return { token, text, finish };
  }
}
