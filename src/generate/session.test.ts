import { afterAll, describe, expect, it } from "vitest";
import { byRow, collect, letters, make, sampled, usage } from "../../test/generation.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { train } from "../train/train.js";
import { Model } from "./model.js";
import { Session } from "./session.js";

const model = make(true);
afterAll(() => model[Symbol.dispose]());

describe("a session", () => {
  it("runs again what it kept once the weights or the router are others", async () => {
    using trained = make(true);
    using session = new Session(trained);
    const options = { ...letters, maxTokens: 6, trace: true };
    const [before] = [await collect(session.generate("abcdef", options))];
    for await (const step of train(trained, { data: Int32Array.from({ length: 2000 }, (_, i) => (i * i) % 256), steps: 3, batch: 2, learningRate: 0.3, warmup: 0, context: 16, evalEvery: 0 })) expect(step.applied).toBe(true);
    const after = await collect(session.generate("abcdef", options));
    expect(after).toEqual(await collect(trained.generate("abcdef", options)));
    expect(after).not.toEqual(before);
    trained.router = byRow;
    expect(await collect(session.generate("abcdef", options))).toEqual(await collect(trained.generate("abcdef", options)));
  });

  it("goes on from the common beginning, with the bits of a fresh start", async () => {
    using session = new Session(model);
    const history: Int32Array[] = [];
    for (const prompt of ["Hello there", "Hello there, you", "Hello", "Hello", "other", "Hello there and there"]) {
      const options = { ...sampled, trace: false, maxTokens: 5 };
      expect(await collect(session.generate(prompt, options))).toEqual(await collect(model.generate(prompt, options)));
      history.push(Int32Array.from(session.tokens));
      expect(byteTokenizer().decode(session.tokens).startsWith(prompt)).toBe(true);
    }
    expect(history.map((tokens) => tokens.length)).toEqual([15, 20, 9, 9, 9, 25]);
  });

  it("runs only the tokens that are new", async () => {
    using session = new Session(model);
    const run = async (prompt: string) => (await collect(session.generate(prompt, { maxTokens: 1, temperature: 0, trace: true })))[0]!.routing!.map(({ token }) => String.fromCharCode(token)).join("");
    expect(await run("The quick")).toBe("The quick");
    expect(await run("The quick brown")).toBe(" brown");
    expect(await run("The quack")).toBe("ack");
    expect(await run("The quack")).toBe("k");
  });

  it("has the bits of a fresh start for prompts that take several passes, with guesses and beside others too", async () => {
    using long = Model.create({ vocab: 256, layers: 2, width: 32, heads: 4, context: 1200, moe: { experts: 4, active: 2 }, seed: 5 });
    using session = new Session(long);
    const prompt = Int32Array.from({ length: 1100 }, (_, i) => (i * i) % 50);
    const options = { maxTokens: 8, temperature: 0, trace: true, logitBias: { 97: 100, 98: 100 } };
    const answer = await collect(long.generate(prompt, options));
    expect(answer.flatMap(({ routing }) => routing!.map(({ position }) => position))).toEqual(Array.from({ length: 1107 }, (_, i) => i));
    const others = await collect(long.generate([prompt.subarray(0, 600), prompt], { ...options, lookup: 8 }));
    expect(others.filter(({ sequence }) => sequence === 1).map((chunk) => ({ ...chunk, sequence: 0 }))).toEqual(answer);
    const routes = [];
    for (const length of [300, 700, 1100]) {
      const chunks = await collect(session.generate(prompt.subarray(0, length), { ...options, maxTokens: length === 1100 ? 8 : 1 }));
      routes.push(...chunks.flatMap(({ routing }) => routing!));
      if (length === 1100) expect(chunks.map(({ token }) => token)).toEqual(answer.map(({ token }) => token));
    }
    expect(routes).toEqual(answer.flatMap(({ routing }) => routing!));
  });

  it("can be left and gone on with, but not used twice at once", async () => {
    using session = new Session(model, { capacity: 20 });
    for await (const _ of session.generate("Hello", { maxTokens: 9 })) break;
    const first = session.generate("Hello");
    await first.next();
    await expect(session.generate("Hello").next()).rejects.toThrow(usage(/being generated/));
    await first.return(undefined);
    expect((await collect(session.generate("Hello"))).length).toBe(15);
    await expect(collect(session.generate("x".repeat(20)))).rejects.toThrow(usage(/context of 20/));
    const last = session.generate("Hello");
    await last.next();
    for (let twice = 0; twice < 2; twice++) session[Symbol.dispose]();
    using _ = new Session(model, { capacity: 20 }); // in the memory of the other
    await expect(last.next()).rejects.toThrow(usage(/disposed of/));
    await expect(session.generate("Hello").next()).rejects.toThrow(usage(/disposed of/));
    expect(() => new Session(model, { capacity: 65 })).toThrow(usage(/context of 64/));
  });
});
