import { afterAll, describe, expect, it, vi } from "vitest";
import { byRow, collect, letters, make, sampled, usage } from "../../test/generation.js";
import { type MoeOptions, modelConfig } from "../model/presets.js";
import type { RopeConfig } from "../model/rope.js";
import { defineRouter } from "../routing/define.js";
import type { Router } from "../routing/types.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { trainBytePairTokenizer } from "../tokenizer/train-byte-pair.js";
import { type Chunk, type GenerateOptions } from "./generate.js";
import { Model } from "./model.js";
import { Session } from "./session.js";

const [model, dense] = [make(true), make(false)];
afterAll(() => [model, dense].forEach((m) => m[Symbol.dispose]()));

const withoutIndex = (chunks: Chunk[]) => chunks.map((chunk) => ({ ...chunk, sequence: 0 }));
const textOf = (chunks: Chunk[]) => chunks.map(({ text }) => text).join("");
const ids = (...n: number[]) => Int32Array.from(n);
const prompts = ["a", "The quick brown fox jumps", "xyz", "0123456789"];

describe("a batch", () => {
  it.each([["greedy", { maxTokens: 20, temperature: 0, trace: true }], ["sampled", sampled]])("of 4 prompts of different lengths equals four singles, %s", async (_, options) => {
    const batch = await collect(model.generate(prompts, options));
    const singles = await Promise.all(prompts.map((prompt) => collect(model.generate(prompt, options))));
    for (const [i, single] of singles.entries()) expect(withoutIndex(batch.filter(({ sequence }) => sequence === i))).toEqual(withoutIndex(single));
    expect(singles.map((chunks) => chunks.length)).toEqual([20, 20, 20, 20]);
    expect(new Set(singles.map((chunks) => chunks.map(({ token }) => token).join())).size).toBe(4);
  });

  it("lets a sequence end before the others", async () => {
    const [first] = await collect(model.generate("a", { ...letters, maxTokens: 1 }));
    const batch = await collect(model.generate(["a", "xyz"], { ...letters, maxTokens: 6, stop: first!.text }));
    expect(batch.filter(({ sequence }) => sequence === 0)).toEqual([{ sequence: 0, token: first!.token, text: "", finish: "stop" }]);
    expect(batch.filter(({ sequence }) => sequence === 1).length).toBeGreaterThan(1);
  });

  it("takes a seed for each prompt", async () => {
    const run = async (prompt: string | string[], seed: number | number[]) => (await collect(dense.generate(prompt, { maxTokens: 12, temperature: 1, seed }))).map(({ token }) => token).join();
    const answers = await collect(dense.generate(["same", "same"], { maxTokens: 12, temperature: 1, seed: [3, 4] }));
    const tokens = [0, 1].map((i) => answers.filter(({ sequence }) => sequence === i).map(({ token }) => token).join());
    expect(tokens).toEqual([await run("same", 3), await run("same", 4)]);
    expect(tokens[0]).not.toBe(tokens[1]);
    await expect(run(["a", "b"], [1])).rejects.toThrow(usage(/seed/));
  });

  it("refuses a precision of products that it does not have", () =>
    expect(collect(model.generate("a", { precision: "f64" as "f32" }))).rejects.toThrow(usage(/precision: expected "f32" or none, got "f64"/)));
});

describe("look-up", () => {
  const passes = async (prompt: string, options: GenerateOptions) => {
    const spy = vi.spyOn(model.engine, "topK");
    const chunks = await collect(model.generate(prompt, options));
    const count = spy.mock.calls.length / model.config.sparseLayers.length;
    spy.mockRestore();
    return { chunks, count };
  };

  it.each<[string, GenerateOptions]>([["greedy", { maxTokens: 30, temperature: 0, trace: true }], ["sampled", sampled]])("changes no token and no route, %s", async (_, options) => {
    const plain = await collect(model.generate(prompts, options));
    const guessed = await collect(model.generate(prompts, { ...options, lookup: 8 }));
    for (const i of prompts.keys()) expect(guessed.filter(({ sequence }) => sequence === i)).toEqual(plain.filter(({ sequence }) => sequence === i));
  });

  it("takes fewer passes where the text repeats itself", async () => {
    const repeating = { maxTokens: 40, temperature: 0, logitBias: { 97: 100, 98: 100 } };
    const plain = await passes("abababab", repeating);
    const guessed = await passes("abababab", { ...repeating, lookup: 8 });
    expect(guessed.chunks).toEqual(plain.chunks);
    expect(plain.count).toBe(40);
    expect(guessed.count).toBeLessThan(20);
  });

  it.each<[string, Partial<MoeOptions>, Router?]>([
    ["a capacity", { router: "gshard" }],
    ["expert choice", { router: "expert-choice" }],
    ["a router of one's own", {}, byRow],
  ])("changes no token and no route with %s, where a guess could change the choice of the token before it", async (_, moe, router) => {
    using competing = make(moe);
    competing.router = router;
    const options = { maxTokens: 40, temperature: 0, logitBias: { 97: 100, 98: 100 }, trace: true };
    expect(await collect(competing.generate("abababab", { ...options, lookup: 8 }))).toEqual(await collect(competing.generate("abababab", options)));
  });

  it("ends within a guess where it would without", async () => {
    const options = { maxTokens: 40, temperature: 0, logitBias: { 97: 100, 98: 100 } };
    const answer = textOf(await collect(model.generate("abababab", options)));
    for (let length = 2; length < 12; length++) {
      const stopping = { ...options, stop: answer.slice(0, length) };
      expect(await collect(model.generate("abababab", { ...stopping, lookup: 8 }))).toEqual(await collect(model.generate("abababab", stopping)));
    }
  });

  it("changes nothing where a longer text turns all of its positions otherwise", async () => {
    const config = modelConfig({ vocab: 256, layers: 2, width: 32, heads: 4, context: 64, moe: { experts: 4, active: 2 } });
    const [rope] = config.ropes as [RopeConfig];
    const factors = (factor: number) => ({ factors: Array.from({ length: rope.rotary / 2 }, () => factor), magnitude: 1 });
    using turning = Model.create({ config: { ...config, ropes: [{ ...rope, scaling: factors(1), long: { ...factors(8), beyond: 20 } }] }, seed: 5, tokenizer: byteTokenizer() });
    const options = { maxTokens: 30, temperature: 0, logitBias: { 97: 100, 98: 100 } };
    expect(await collect(turning.generate("abababab", { ...options, lookup: 8 }))).toEqual(await collect(turning.generate("abababab", options)));
  });

  it("leaves a session's cache as it would be without", async () => {
    using session = new Session(model);
    using plain = new Session(model);
    for (const prompt of ["abababab", "ababababab"]) {
      const options = { maxTokens: 9, temperature: 0.7, seed: 4 };
      expect(await collect(session.generate(prompt, { ...options, lookup: 6 }))).toEqual(await collect(plain.generate(prompt, options)));
      expect(session.tokens).toEqual(plain.tokens);
    }
  });

  it.each([-1, 1.5, 513])("refuses %s", (lookup) => expect(collect(model.generate("a", { lookup }))).rejects.toThrow(usage(/lookup: expected an integer from 0 to 512/)));
});

describe("a generation", () => {
  it("is the same from text and from its token ids, with and without the routing", async () => {
    const tokens = byteTokenizer().encode("The quick");
    const plain = await collect(model.generate("The quick", { maxTokens: 8, temperature: 0 }));
    expect(await collect(model.generate(tokens, { maxTokens: 8, temperature: 0 }))).toEqual(plain);
    const traced = await collect(model.generate("The quick", { maxTokens: 8, temperature: 0, trace: true }));
    expect(traced).toMatchObject(plain);
    expect(traced.map(({ routing }) => routing?.length)).toEqual([9, ...Array.from({ length: 7 }, () => 1)]);
  });

  it("streams whole characters, which joined are the answer's text", async () => {
    // Tokens that begin, continue and break off characters of two to four bytes.
    const bytes = [0x61, 0xc3, 0xa9, 0xe4, 0xb8, 0xad, 0xf0, 0x9f, 0x98, 0x80];
    const logitBias = Object.fromEntries(Array.from({ length: 256 }, (_, id) => [id, bytes.includes(id) ? 0 : -Infinity]));
    for (let seed = 1; seed <= 10; seed++) {
      const chunks = await collect(dense.generate("a", { maxTokens: 40, temperature: 3, seed, logitBias }));
      expect(textOf(chunks)).toBe(byteTokenizer().decode(chunks.map(({ token }) => token)));
      for (const { text } of chunks) expect(text).not.toMatch(/\p{Surrogate}/u);
    }
  });

  it("goes on from a character that the prompt begins", async () => {
    const chunks = await collect(dense.generate(ids(0x61, 0xe4, 0xb8), { maxTokens: 1, temperature: 0, logitBias: { 0xad: 1000 } }));
    expect(textOf(chunks)).toBe("\u4e2d");
  });

  it.each<[string, GenerateOptions, string]>([
    ["none", {}, "aaaaaa"],
    ["repetition, of the prompt's c too", { repetitionPenalty: 2 }, "abaaaa"],
    ["presence", { presencePenalty: 2e5 }, "abaaaa"],
    ["frequency", { frequencyPenalty: 6e4 }, "aababa"],
  ])("counts the tokens of its answer for penalties: %s", async (_, penalty, text) => {
    const chunks = await collect(dense.generate("c", { maxTokens: 6, temperature: 0, logitBias: { 97: 1e6, 98: 9e5, 99: 7.5e5 }, ...penalty }));
    expect(textOf(chunks)).toBe(text);
  });

  it("says why it ends, and fills the context to its last token", async () => {
    const chunks = await collect(dense.generate("The quick", { temperature: 0 }));
    expect(chunks.length).toBe(64 - 9);
    expect(chunks.map(({ finish }) => finish)).toEqual([...Array.from({ length: 54 }, () => undefined), "length"]);
  });

  it("ends before a stop sequence that straddles tokens", async () => {
    const options = { ...letters, maxTokens: 12 };
    const whole = textOf(await collect(dense.generate("ab", options)));
    expect(whole).toMatch(/^[a-z]{12}$/);
    const stop = whole.slice(4, 7);
    const at = whole.indexOf(stop);
    const stopped = await collect(dense.generate("ab", { ...options, stop: ["never", stop] }));
    expect(textOf(stopped)).toBe(whole.slice(0, at));
    expect(stopped.at(-1)).toMatchObject({ token: stop.charCodeAt(2), text: "", finish: "stop" });
    expect(stopped.length).toBe(at + 3);
    // Begun, never completed: nothing is lost.
    expect(textOf(await collect(dense.generate("ab", { ...options, stop: `${whole.slice(-2)}!` })))).toBe(whole);
  });

  it("ends with the end-of-text token, which has no text", async () => {
    const tokenizer = trainBytePairTokenizer(["ab ab ab cd cd"], { vocab: 260 });
    using small = Model.create({ vocab: tokenizer.vocabSize, layers: 1, width: 16, heads: 2, context: 32, moe: false, seed: 1, tokenizer });
    const chunks = await collect(small.generate("ab", { temperature: 0, logitBias: { [tokenizer.eosId!]: 100 } }));
    expect(chunks).toEqual([{ sequence: 0, token: tokenizer.eosId, text: "", finish: "stop" }]);
  });

  it("ends with any of the tokens that end a turn", async () => {
    const tokenizer = Object.assign(byteTokenizer(), { endIds: [98, 99] });
    using turns = Model.create({ vocab: 256, layers: 1, width: 16, heads: 2, context: 32, moe: false, seed: 1, tokenizer });
    for (const token of [98, 99]) expect(await collect(turns.generate("a", { temperature: 0, logitBias: { [token]: 100 } }))).toEqual([{ sequence: 0, token, text: "", finish: "stop" }]);
  });

  it("stops at once when aborted, and frees its memory", async () => {
    const before = model.engine.allocatedBytes;
    const stop = new AbortController();
    const chunks: Chunk[] = [];
    const read = async () => {
      for await (const chunk of model.generate(["a", "b"], { signal: stop.signal, maxTokens: 30 })) {
        chunks.push(chunk);
        if (chunks.length === 4) stop.abort();
      }
    };
    await expect(read()).rejects.toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_ABORTED" }));
    expect(chunks.length).toBe(4);
    for await (const _ of model.generate("abc", { maxTokens: 30 })) break;
    expect(model.engine.allocatedBytes).toBe(before);
  });

  it("leaves the event loop its turns within a prompt, where it can be aborted", async () => {
    using deep = Model.create({ vocab: 256, layers: 12, width: 32, heads: 4, context: 64, moe: { experts: 4, active: 2 }, seed: 5, tokenizer: byteTokenizer() });
    using session = new Session(deep);
    const prompt = "The quick brown fox jumps";
    const answer = await collect(deep.generate(prompt, { maxTokens: 5 }));
    const stop = new AbortController();
    const turn = (left: number) => setImmediate(() => (left === 0 ? stop.abort() : turn(left - 1)));
    turn(3);
    await expect(collect(session.generate(prompt, { signal: stop.signal }))).rejects.toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_ABORTED" }));
    expect(session.tokens).toEqual([]);
    // Two prompts layer by layer in turn, in the session that was stopped too: the bits of one alone.
    const both = await Promise.all([collect(session.generate(prompt, { maxTokens: 5 })), collect(deep.generate(prompt, { maxTokens: 5 }))]);
    expect(both).toEqual([answer, answer]);
  });

  it("reserves so little that many run at a time", async () => {
    const before = model.engine.allocatedBytes;
    const answers = Array.from({ length: 100 }, () => model.generate("abc", { maxTokens: 2 }));
    for (const answer of answers) await answer.next();
    expect((model.engine.allocatedBytes - before) / answers.length).toBeLessThan(2 ** 25);
    for (const answer of answers) await answer.return(undefined);
  });

  it("is refused once its model was disposed of, in the middle of an answer too", async () => {
    const gone = make(true);
    const answer = gone.generate("abc", { maxTokens: 5 });
    await answer.next();
    for (let twice = 0; twice < 2; twice++) gone[Symbol.dispose]();
    using _ = make(false); // in the memory of the other
    await expect(answer.next()).rejects.toThrow(usage(/disposed of/));
    await expect(collect(gone.generate("abc"))).rejects.toThrow(usage(/disposed of/));
  });

  it("is refused when its model is trained between two layers of its prompt", async () => {
    using other = make(true);
    const answer = other.generate("The quick brown fox").next();
    other.router = defineRouter("none", () => {
      throw new Error("never asked");
    });
    await expect(answer).rejects.toThrow(usage(/was trained, or got another router, while it read a prompt/));
  });

  it.each(["model", "session"])("is refused once its %s was disposed of between two layers of its prompt", async (what) => {
    const gone = make(true);
    const session = new Session(gone);
    const answer = session.generate("The quick brown fox").next();
    (what === "model" ? gone : session)[Symbol.dispose]();
    using _ = make(false); // in the memory of the other
    await expect(answer).rejects.toThrow(usage(/disposed of/));
    gone[Symbol.dispose]();
  });

  it.each<[string, string | Int32Array | string[], GenerateOptions, RegExp]>([
    ["an empty prompt", "", {}, /empty/],
    ["no prompt of several", [], {}, /an empty list/],
    ["a misspelled option", "a", { temprature: 0 } as GenerateOptions, /unknown option "temprature"; did you mean temperature\?/],
    ["what are no options", "a", 5 as unknown as GenerateOptions, /expected an object of options, got 5/],
    ["a number in quotes", "a", { maxTokens: "5" as unknown as number }, /maxTokens: expected an integer of at least 1, got "5"/],
    ["seeds for fewer prompts", ["a", "b"], { seed: [1] }, /seed: expected one for each prompt/],
    ["a controller as a signal", "a", { signal: new AbortController() as unknown as AbortSignal }, /expected an AbortSignal/],
    ["biases in a Map", "a", { logitBias: new Map([[97, 1]]) as unknown as Record<number, number> }, /got a Map; use Object.fromEntries/],
    ["large integers", new BigInt64Array([97n]) as unknown as Int32Array, {}, /as a prompt, or a list of such, got BigInt64Array/],
    ["a number of tokens that is none", "x", { maxTokens: NaN }, /generate: maxTokens: expected an integer of at least 1, got NaN/],
    ["one empty prompt of two", ["a", ""], {}, /empty/],
    ["a prompt as long as the context", "x".repeat(64), {}, /64 tokens.*context of 64/],
    ["an unknown id", ids(1, 256), {}, /0 to 255, got 256/],
    ["no tokens", "a", { maxTokens: 0 }, /maxTokens/],
    ["an empty stop sequence", "a", { stop: ["x", ""] }, /stop/],
    ["a stop sequence that is no text", "a", { stop: 5 as unknown as string }, /stop: expected texts of at least one character, got 5/],
    ["a prompt of plain numbers", [1, 2] as unknown as string[], {}, /expected a text or an Int32Array of token ids .*, got 1/],
    ["an id that is no integer", Float32Array.of(1.5) as unknown as Int32Array, {}, /0 to 255, got 1.5/],
    ["an unknown biased token", "a", { logitBias: { 256: 1 } }, /0 to 255/],
  ])("refuses %s", async (_, prompt, options, message) => {
    await expect(collect(model.generate(prompt, options))).rejects.toThrow(usage(message));
  });
});
