import { afterAll, describe, expect, it } from "vitest";
import { byRow, collect, letters, make, sampled, usage } from "../../test/generation.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { train } from "../train/train.js";
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
