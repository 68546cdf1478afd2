import { check } from "../errors.js";
import { checkOptions, show } from "../options.js";
import { KvCache, type KvType } from "../model/cache.js";
import { checkLanguageModel, type LanguageModel } from "../model/language-model.js";
import { type Chunk, generateOptions, type GenerateOptions, kvType, newSequence, type Prompt, promptIds, run } from "./generate.js";
import type { Context } from "./sequence.js";

/**
 * A conversation: each call of `generate` gets the whole text so far, and runs only what differs from the calls before. Answers
 * are the same bits as without a session, unless a router's choice depends on the other tokens (expert choice).
 */
export class Session {
  private readonly context: Context;
  private busy = false;

  /** `capacity`: most tokens of a conversation; default the model's context. `kv`: type of the keys and values kept, as in `generate`. Throws ERR_SWITCHYARD_USAGE, ERR_SWITCHYARD_MEMORY. */
  constructor(
    private readonly model: LanguageModel,
    options: { capacity?: number | undefined; kv?: KvType | undefined } = {},
  ) {
    checkLanguageModel("session", model);
    checkOptions("session", options, { capacity: true, kv: true });
    const { engine, config } = model;
    const { capacity = config.context } = options;
    check(Number.isInteger(capacity) && capacity >= 2 && capacity <= config.context, "ERR_SWITCHYARD_USAGE", () => `session: capacity: expected an integer from 2 to the model's context of ${config.context}, got ${show(capacity)}`);
    this.context = { cache: new KvCache(engine, config, capacity, kvType(model, options.kv)), tokens: [], version: model.parameters.version };
  }

  /** Tokens whose keys and values are kept. */
  get tokens(): readonly number[] {
    return this.context.tokens;
  }

  /** As `generate`, for one prompt. Throws ERR_SWITCHYARD_USAGE while an earlier call has not ended, and once the session was disposed of. */
  async *generate(prompt: Prompt, options: GenerateOptions = {}): AsyncGenerator<Chunk> {
    checkOptions("session", options, generateOptions);
    check(!this.busy, "ERR_SWITCHYARD_USAGE", () => "session: an answer is being generated; wait for its end, call return() of its iterator, or use another session");
    this.busy = true;
    try {
      yield* run(this.model, [newSequence(this.model, this.context, promptIds(this.model, prompt), options, 0)], options);
    } finally {
      this.busy = false;
    }
  }

  [Symbol.dispose](): void {
    this.context.cache[Symbol.dispose]();
  }
}
