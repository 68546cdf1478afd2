import { expect, it } from "vitest";
import { ReferenceEngine } from "../engine/reference.js";
import { KvCache } from "../model/cache.js";
import type { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { type Context, Sequence } from "./sequence.js";

it("takes a prompt of more tokens than a call can have arguments, and takes it again", () => {
  const config = modelConfig({ vocab: 16, width: 8, layers: 1, heads: 1, context: 2 ** 18 });
  using cache = new KvCache(new ReferenceEngine(), config, config.context);
  const context: Context = { cache, tokens: [], version: 0 };
  const prompt = Array.from({ length: 200_000 }, (_, i) => i % 16);
  const sequence = new Sequence(context, prompt, { config, tokenizer: undefined, parameters: { version: 0 } } as unknown as LanguageModel, { maxTokens: 10, seed: 1, stop: [], lookup: 4 });
  expect(sequence.guess(0)).toEqual([0, 1, 2, 3]);
  cache.reserve(prompt.length);
  cache.grow(prompt.length);
  sequence.ran(prompt.length);
  expect([context.tokens, sequence.pending]).toEqual([prompt, []]);
  cache.truncate(0);
  sequence.pending.push(5);
  sequence.prepare();
  expect([context.tokens, sequence.pending]).toEqual([[], [...prompt, 5]]);
});
