import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { describeNative } from "../../../test/engines.js";
import { Tape } from "../../autograd/tape.js";
import { Arena } from "../../engine/arena.js";
import { loadEngine } from "../../engine/load.js";
import { NativeEngine } from "../../engine/native.js";
import { SwitchyardError } from "../../errors.js";
import { Model } from "../../generate/model.js";
import { KvCache } from "../cache.js";
import { readModelGguf } from "../gguf-file.js";
import { modelConfig } from "../presets.js";
import { writeRandomGguf } from "../random-gguf.js";
import { forward, logits } from "../transformer.js";
import type { ExpertCache } from "./expert-cache.js";
import type { Needs, Room } from "./room.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-residency-"));
afterAll(() => rmSync(dir, { recursive: true }));
const [layers, experts, active] = [3, 8, 2];
const config = modelConfig({ vocab: 300, width: 256, layers, heads: 4, context: 64, moe: { router: "mixtral", experts, active, hidden: 256 } });
const file = join(dir, "model.gguf");
await writeRandomGguf(file, config, "Q4_K", 1);
const prompt = Int32Array.from([5, 80, 33, 7, 120, 9, 61]);

describeNative("a cache of experts", () => {
  const engine = loadEngine();
  const open = (room?: Room, path = file, seen?: (needs: Needs) => void): Model => {
    const { config: read, sources } = readModelGguf(path);
    const roomFor = room && ((needs: Needs) => (seen?.(needs), room));
    return new Model(engine, read, undefined, sources, roomFor);
  };
  /** Logits of every step: the prompt in one pass, then token by token. */
  const run = (model: Model): Float32Array[] => {
    using cache = new KvCache(engine, model.config, 32);
    using arena = new Arena(engine);
    return [[...prompt], ...Array.from({ length: 20 }, (_, i) => [(i * 37 + 11) % 300])].map((ids) => {
      arena.reset();
      const tape = new Tape(engine, arena);
      const { hidden } = forward(tape, model, { ids: tape.constant([ids.length], ids, "i32"), batch: [{ cache, length: ids.length }] });
      return Float32Array.from(engine.read(logits(tape, model, hidden)));
    });
  };
  const countsOf = (model: Model) => (model.parameters.cache as ExpertCache).counts;

  it.each([experts, experts + 1, 23, 100])("of %i slots gives the same bits as files that are mapped", async (slots) => {
    using mapped = open();
    using budgeted = open(() => slots);
    expect(run(budgeted)).toEqual(run(mapped));
    const tokens = async (model: Model, ids: Int32Array) => {
      const answer: number[] = [];
      for await (const { token } of model.generate(ids, { maxTokens: 12, temperature: 0 })) answer.push(token);
      return answer;
    };
    // Layers of the long ones take turns with each other and with tokens of the short one.
    const prompts = [prompt, ...[3, 7].map((step) => Int32Array.from({ length: 20 }, (_, i) => (i * step) % 300))];
    const together = await Promise.all(prompts.map((ids) => tokens(budgeted, ids)));
    for (const [i, ids] of prompts.entries()) expect(together[i]).toEqual(await tokens(mapped, ids));
  });

  it("counts what was needed, was there, was read ahead, and the bytes", () => {
    using all = open(() => 100);
    run(all);
    const { needed, hits, tokens } = countsOf(all);
    expect(tokens).toBe(prompt.length + 20);
    expect(needed).toBeGreaterThanOrEqual(layers * active * 21);
    const used = needed - hits; // each expert is read once, ahead of its first use or for it
    expect(used).toBeLessThanOrEqual(layers * experts);
    const bytes = 3 * 256 * 144; // three matrices of 256 rows, a block of Q4_K each
    expect(countsOf(all).bytesRead).toBeGreaterThanOrEqual(used * bytes);
    expect(countsOf(all).bytesRead).toBeLessThanOrEqual(layers * experts * bytes);

    using few = open(() => 9);
    run(few);
    const counts = countsOf(few);
    expect(counts.needed).toBe(needed);
    expect(counts.hits).toBeLessThan(hits);
    expect(counts.ahead).toBeGreaterThan(0);
    expect(counts.foreseen).toBeLessThanOrEqual(counts.forecast);
    // At least what was not there, at most also what was forecast in vain.
    const missing = counts.needed - counts.hits;
    expect(counts.bytesRead).toBeGreaterThanOrEqual((missing - counts.forecast) * bytes);
    expect(counts.bytesRead).toBeLessThanOrEqual((missing + counts.forecast - counts.foreseen) * bytes);
  });

  it("gives memory back when there is less room, and says so when there is too little", () => {
    let slots = 20;
    using mapped = open();
    using budgeted = open(() => slots);
    const before = run(mapped);
    expect(run(budgeted)).toEqual(before);
    const held = engine.allocatedBytes;
    slots = 8;
    expect(run(budgeted)).toEqual(before);
    expect(held - engine.allocatedBytes).toBe(12 * (budgeted.parameters.cache as ExpertCache).bytesPerSlot);
    slots = 1;
    expect(() => run(budgeted)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_MEMORY", message: expect.stringMatching(/needs \d experts at a time, and the budget has room for 1 .*; give about 1 MiB more, enough for the 8 of a layer/) }));
  });

  it("leaves room for what a prompt's products give, which stays allocated", () => {
    const growth: number[] = [];
    using model = open((_used, more) => {
      growth.push(more);
      return 20;
    });
    run(model);
    // Gate and up, their product, and down, for each token and expert; sums over the experts, and those with the layer's input.
    const results = prompt.length * 4 * (active * (2 * 256 + 256 + 256) + 2 * 256);
    expect(growth.slice(0, layers)).toEqual([results, ...Array(layers - 1).fill(0)]);
    run(model);
    expect(growth.reduce((sum, more) => sum + more)).toBe(results);
  });

  it("takes a budget in bytes for the whole process, and names the smallest that works", async () => {
    let needs: Needs | undefined;
    using mapped = open();
    open(() => 8, file, (n) => (needs = n))[Symbol.dispose]();
    const dense = mapped.parameters.list.filter(({ name }) => !/experts/.test(name)).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
    expect(needs).toMatchObject({ experts });
    expect(needs?.dense).toBeLessThan(4 * dense);
    expect(needs?.slot).toBeLessThanOrEqual(3 * 256 * 144 + 3 * 4096);

    await expect(Model.load(file, { memory: "1GiB" as unknown as number })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_USAGE", message: 'memory: expected a number of bytes, got "1GiB"' });
    const error = await Model.load(file, { memory: 1e6 }).then(() => undefined, (e: Error & { code: string }) => e);
    expect(error?.code).toBe("ERR_SWITCHYARD_MEMORY");
    const [, least] = /at least (\d+) MiB/.exec(error?.message ?? "") ?? [];
    using model = await Model.load(file, { memory: Number(least) * 2 ** 20 });
    expect(run(model)).toEqual(run(mapped));
  });

  it("goes through a router that a user wrote", () => {
    using mapped = open();
    using budgeted = open(() => 9);
    const before = run(budgeted);
    for (const model of [mapped, budgeted]) {
      model.router = ({ tape, x, k }) => {
        const ids = Int32Array.from({ length: x.rows * k }, (_, i) => (i * 3) % experts);
        const scores = tape.constant([x.rows, experts], new Float32Array(x.rows * experts).fill(1 / experts));
        const load = new Int32Array(experts);
        for (const e of ids) load[e]!++;
        return { logits: scores, scores, experts: tape.constant([x.rows, k], ids, "i32"), weights: tape.constant([x.rows, k], new Float32Array(x.rows * k).fill(0.5)), load, dropped: 0, fullyDropped: 0, losses: {}, raw: {} };
      };
    }
    const routed = run(budgeted);
    expect(routed).not.toEqual(before);
    expect(routed).toEqual(run(mapped));
  });

  it("refuses what would need all experts at once, and tells of a file that is cut short", async () => {
    const cut = join(dir, "cut.gguf");
    await writeRandomGguf(cut, config, "Q4_K", 1);
    const budgeted = open(() => 9, cut);
    expect(() => budgeted.parameters.requireGradients()).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE", message: expect.stringContaining("without one") }));
    truncateSync(cut, 100_000);
    expect(() => run(budgeted)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO", message: expect.stringContaining("cut short") }));
    budgeted[Symbol.dispose]();
  });

  it("a read that fails is told to the prompt that waited for it, not to the one that came in between; tokens count once", async () => {
    const long = Int32Array.from({ length: 24 }, (_, i) => (i * 7 + 3) % 300);
    const ended = async (model: Model, ids: Int32Array) => {
      for await (const _ of model.generate(ids, { maxTokens: 1 }));
    };
    const openFile = vi.spyOn(engine as NativeEngine, "openFile").mockImplementation((path) => {
      const reads = NativeEngine.prototype.openFile.call(engine, path);
      let first = 0;
      return {
        start: (...read) => {
          const number = reads.start(...read);
          first ||= number;
          return number;
        },
        hurry: (read) => reads.hurry(read),
        stop: (read) => reads.stop(read),
        finish: (read) => {
          reads.finish(read);
          if (read === first) {
            first = -1;
            throw new SwitchyardError("ERR_SWITCHYARD_IO", "read: it failed");
          }
        },
        close: () => reads.close(),
      };
    });
    try {
      using failing = open(() => 20);
      const [one, other] = await Promise.allSettled([ended(failing, long), ended(failing, prompt)]);
      expect([one, other]).toMatchObject([{ status: "rejected", reason: { message: "read: it failed" } }, { status: "fulfilled" }]);
    } finally {
      openFile.mockRestore();
    }
    using model = open(() => 20);
    await Promise.all([ended(model, long), ended(model, long.map((id) => id + 1))]);
    expect(countsOf(model).tokens).toBe(2 * long.length);
  });
});
