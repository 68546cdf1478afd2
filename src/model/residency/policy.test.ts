import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { describeNative } from "../../../test/engines.js";
import { Tape } from "../../autograd/tape.js";
import { Arena } from "../../engine/arena.js";
import { loadEngine } from "../../engine/load.js";
import { hitRate } from "../../inspect/replacement.js";
import type { Router } from "../../routing/types.js";
import { Random } from "../../tensor/random.js";
import { KvCache } from "../cache.js";
import { readModelGguf } from "../gguf-file.js";
import { LanguageModel } from "../language-model.js";
import { modelConfig } from "../presets.js";
import { writeRandomGguf } from "../random-gguf.js";
import { forward } from "../transformer.js";
import { type ExpertCache, halfLife } from "./expert-cache.js";
import { Popularity } from "./popularity.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-policy-"));
afterAll(() => rmSync(dir, { recursive: true }));
const experts = 8;

/** Experts of each token of a pass, by layer; what a forecast of the next layer is told may be something else. */
type Choose = (layer: number, isForecast: boolean) => number[][];

describeNative("which experts stay", () => {
  const engine = loadEngine();

  /** A model with room for some experts, and passes that go where they are sent. */
  async function model(layers: number, slots: number) {
    const file = join(dir, `${layers}-${slots}.gguf`);
    await writeRandomGguf(file, modelConfig({ vocab: 64, width: 32, layers, heads: 2, context: 512, moe: { router: "mixtral", experts, active: 2, hidden: 32 } }), "Q4_0", 1);
    const { config, sources } = readModelGguf(file);
    const made = new LanguageModel(engine, config, undefined, sources, () => () => slots);
    const [kept, arena] = [new KvCache(engine, config, 512), new Arena(engine, 2 ** 22)];
    const { counts } = made.parameters.cache as ExpertCache;
    return {
      counts,
      run(choose: Choose): number {
        const before = counts.hits;
        let seen: unknown;
        made.router = ({ tape, x, k, parameters }): ReturnType<Router> => {
          const layer = config.sparseLayers.findIndex((l) => made.parameters.get(`layers.${l}.router.weight`) === parameters.weight);
          const ids = Int32Array.from(choose(layer, x === seen).flat());
          seen = x;
          const scores = tape.constant([x.rows, experts], new Float32Array(x.rows * experts).fill(1 / experts));
          const load = new Int32Array(experts);
          for (const e of ids) load[e]!++;
          return { logits: scores, scores, experts: tape.constant([x.rows, k], ids, "i32"), weights: tape.constant([x.rows, k], new Float32Array(x.rows * k).fill(0.5)), load, dropped: 0, fullyDropped: 0, losses: {}, raw: {} };
        };
        arena.reset();
        const tape = new Tape(engine, arena);
        const length = choose(0, false).length;
        forward(tape, made, { ids: tape.constant([length], new Int32Array(length), "i32"), batch: [{ cache: kept, length }] });
        return counts.hits - before;
      },
      [Symbol.dispose]() {
        for (const part of [arena, kept, made]) part[Symbol.dispose]();
      },
    };
  }

  it("the most popular ones, as a simulation has it", async () => {
    const slots = 4;
    using one = await model(1, slots);
    const random = new Random(3);
    // The favourites change half way.
    const groups = Array.from({ length: 400 }, (_, i) => {
      const first = random.float() < 0.5 ? (i < 200 ? 0 : 3) : random.below(experts);
      return [first, (first + 1 + random.below(experts - 1)) % experts];
    });
    const hits = groups.map((group) => one.run(() => [group])).reduce((sum, n) => sum + n);
    expect(one.counts).toMatchObject({ needed: 800, hits, ahead: 0, forecast: 0 });
    const simulated = (policy: Parameters<typeof hitRate>[2]) => 800 * hitRate(groups, slots, policy, 1);
    expect(hits).toBe(simulated({ halfLife }));
    expect(hits).not.toBe(simulated("least recent"));
    expect(hits).not.toBe(simulated("least frequent"));
  });

  it("of a prompt, those that many of its tokens chose", async () => {
    using one = await model(1, 4);
    one.run(() => [...Array<number[]>(6).fill([0, 1]), [2, 3]]);
    expect(one.run(() => [[4, 5]])).toBe(0);
    expect(one.run(() => [[0, 1]])).toBe(2);
  });

  it("and the better half of a forecast is read ahead", async () => {
    using two = await model(2, 6);
    for (let i = 0; i < 40; i++) two.run((layer, isForecast) => [layer === 0 ? [i % 2, 2] : [(i * 3) % experts, isForecast ? (i * 3 + 4) % experts : (i * 3 + 1) % experts]]);
    const { forecast, foreseen } = two.counts;
    expect(forecast).toBeGreaterThan(10);
    expect(foreseen).toBe(forecast);
  });
});

it("uses over a duration are as popular as the same number one by one", () => {
  const [spread, single] = [new Popularity(1, 16), new Popularity(1, 16)];
  spread.use(0, 40, 10, 20);
  for (let now = 21; now <= 40; now++) single.use(0, now, 0.5);
  expect(spread.rank(0)).toBeCloseTo(single.rank(0), 9);
});
