import { expect, it } from "vitest";
import { loadEngine } from "./engine/load.js";
import { verify } from "./inspect/verify.js";
import { EncoderDecoderModel } from "./model/encoder-decoder/model.js";
import { LanguageModel } from "./model/language-model.js";
import { modelConfig, type ModelOptions } from "./model/presets.js";
import { defineRouter } from "./routing/define.js";
import { routerConfig } from "./routing/presets.js";
import { byteTokenizer } from "./tokenizer/bytes.js";
import { encodeChat } from "./tokenizer/chat.js";
import { trainBytePairTokenizer } from "./tokenizer/train-byte-pair.js";
import { evaluate } from "./train/evaluate.js";
import { Trainer } from "./train/trainer.js";
import { trainOptions } from "./train/options.js";

const made = () => LanguageModel.create({ vocab: 256, layers: 1, width: 16, heads: 2, context: 16, moe: { experts: 2, active: 1 }, tokenizer: byteTokenizer() });

it.each<[string, () => unknown, RegExp]>([
  ["create", () => LanguageModel.create({ vocab: 256, layer: 1 } as unknown as ModelOptions), /create: unknown option "layer"; did you mean layers\?/],
  ["create, in the mixture", () => LanguageModel.create({ vocab: 256, moe: { expert: 4 } } as unknown as ModelOptions), /model config: moe: unknown option "expert"; did you mean experts\?/],
  ["create, without any", () => LanguageModel.create(undefined as unknown as ModelOptions), /create: expected an object of options, got undefined/],
  ["create, an engine's name", () => LanguageModel.create({ vocab: 256, engine: "reference" } as unknown as ModelOptions), /expected what loadEngine returns, got "reference"/],
  ["create, a place of sparse layers", () => modelConfig({ vocab: 256, moe: { layers: "every-othr" as "all" } }), /expected "all", "every-other" or .* got "every-othr"/],
  ["loadEngine", () => loadEngine({ engin: "reference" } as object), /loadEngine: unknown option "engin"; did you mean engine\?/],
  ["loadEngine, a type", () => loadEngine({ float: "f16" as "f32" }), /float: expected "f32" or "f64", got "f16"/],
  ["routerConfig", () => routerConfig("mixtral", { scael: 3 } as object), /router: unknown option "scael"; did you mean scale\?/],
  ["a tokenizer's training", () => trainBytePairTokenizer(["a"], { vocabulary: 300 } as unknown as { vocab: number }), /unknown option "vocabulary"/],
  ["a router that is none", () => void (made().router = "olmoe" as never), /expected what defineRouter returns, got "olmoe"/],
  ["a router of a dense model", () => void (LanguageModel.create({ vocab: 9, moe: false }).router = defineRouter("any", () => ({}) as never)), /the model is dense/],
])("%s says what it does not know", (_, call, message) => {
  expect(call).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE", message: expect.stringMatching(message) }));
});

it("loading, evaluation and a step say so too", async () => {
  using model = made();
  await expect(LanguageModel.load("none", { memry: 1 } as object)).rejects.toThrow(/load: unknown option "memry"; did you mean memory\?/);
  await expect(EncoderDecoderModel.load("none", { memory: 2 ** 30 } as object)).rejects.toThrow(/load: unknown option "memory"; known are engine/);
  await expect(LanguageModel.load(undefined as unknown as string)).rejects.toThrow(/load: expected the path of a file or folder, got undefined/);
  await expect(evaluate(model, { data: Int32Array.of(1, 2, 3), contxt: 3 } as never)).rejects.toThrow(/eval: unknown option "contxt"; did you mean context\?/);
  await expect(evaluate(undefined as never, { data: "x" })).rejects.toThrow(/eval: expected a model/);
  await expect(encodeChat(byteTokenizer(), [{ role: "user", content: "a" }], { add_generation_prompt: false } as object)).rejects.toThrow(/chat: unknown option "add_generation_prompt"; did you mean addGenerationPrompt\?/);
  await expect(verify("none", "none", { tolerence: 1 } as object)).rejects.toThrow(/verify: unknown option "tolerence"; did you mean tolerance\?/);
  await expect(verify("none", "none", { tolerance: "1" as never })).rejects.toThrow(/verify: tolerance: expected a number of at least 0, got "1"/);
  using trainer = new Trainer(model, trainOptions({ steps: 1, batch: 3, learningRate: 1e-3 }));
  expect(() => trainer.train(() => ({ inputs: [1, 2, 3, 4], targets: [2, 3, 4, 5], batch: 3 }))).toThrow(/for 3 sequences of one length, got 4 and 4/);
});

it("a tokenizer has no more tokens than the model, given with it or later", async () => {
  expect(() => LanguageModel.create({ vocab: 100, tokenizer: byteTokenizer() })).toThrow(/the tokenizer has 256 tokens, and the model a vocabulary of 100/);
  using model = LanguageModel.create({ vocab: 100, layers: 1, width: 16, heads: 2, context: 16 });
  model.tokenizer = byteTokenizer();
  await expect(evaluate(model, { data: import.meta.filename })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DATA", message: expect.stringMatching(/expected token ids from 0 to 99, got 1\d\d/) });
});

it("part of a router's config leaves the rest as softmax-top-k has it; one text is one text", () => {
  const { moe } = modelConfig({ vocab: 256, moe: { router: { score: "sigmoid" } } });
  expect(moe?.router).toEqual(routerConfig("softmax-top-k", { score: "sigmoid" }));
  const text = "the the the the the cat cat cat";
  expect(trainBytePairTokenizer(text, { vocab: 300 }).vocabSize).toBe(trainBytePairTokenizer([text], { vocab: 300 }).vocabSize);
});
