import { afterAll, describe, expect, it } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { forward } from "../model/transformer.js";
import { routerConfig } from "../routing/presets.js";
import type { RouterConfig } from "../routing/types.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import type { Chunk, GenerateOptions } from "./generate.js";
import { Model } from "./model.js";
import { routedExperts } from "./routing-record.js";

const make = (router: RouterConfig, active = 2) => {
  const model = Model.create({ vocab: 256, layers: 2, width: 32, heads: 4, context: 64, moe: { experts: 4, active, router, layers: { firstDense: 1 } }, seed: 3, tokenizer: byteTokenizer() });
  for (const { tensor, init } of model.parameters.list) if ("std" in init) model.engine.scale(tensor, tensor, 8);
  return model;
};
const mixtral = routerConfig("mixtral");
const model = make(mixtral);
const biased = make(routerConfig("deepseek-v3", { groups: undefined }));
const crowded = make({ ...mixtral, capacity: { train: 1, eval: 0.75, drop: "position" } });
const all = make(mixtral, 4);
afterAll(() => [model, biased, crowded, all].forEach((m) => m[Symbol.dispose]()));

const collect = async (m: Model, options: GenerateOptions) => {
  const chunks: Chunk[] = [];
  for await (const chunk of m.generate("The quick brown fox", options)) chunks.push(chunk);
  return chunks;
};
const routesOf = async (m: Model, maxTokens = 1) => (await collect(m, { maxTokens, temperature: 0, trace: true })).flatMap(({ routing }) => routing ?? []);

/** What the router of the only sparse layer gives each token, [T][E]. */
function rows(m: Model, part: "scores" | "choice"): number[][] {
  using arena = new Arena(m.engine);
  const tape = new Tape(m.engine, arena);
  const ids = byteTokenizer().encode("The quick brown fox");
  const { routings } = forward(tape, m, { ids: tape.constant([ids.length], ids, "i32"), batch: 1 });
  const tensor = routings[0]![part]!;
  const values = Array.from(m.engine.read(tensor));
  return Array.from({ length: tensor.rows }, (_, t) => values.slice(t * 4, t * 4 + 4));
}
const falling = (row: number[]) => [...row].sort((a, b) => b - a);

describe("the routing record", () => {
  it("has experts, weights, scores, margin and entropy of every token, as the router gives them", async () => {
    const routes = await routesOf(model);
    expect(routes.map(({ position }) => position)).toEqual(Array.from({ length: 19 }, (_, i) => i));
    expect(routes.map(({ text }) => text).join("")).toBe("The quick brown fox");
    for (const [t, row] of rows(model, "scores").entries()) {
      const { layers } = routes[t]!;
      expect(layers.length).toBe(1);
      const [{ layer, experts, weights, scores, margin, entropy, dropped }] = layers as [(typeof layers)[number]];
      const best = falling(row);
      expect([layer, dropped]).toEqual([1, []]);
      expect(experts.map((e) => row[e])).toEqual(scores);
      expect(scores).toEqual(best.slice(0, 2));
      expect(weights.map((w) => w.toFixed(5))).toEqual(scores.map((s) => (s / (best[0]! + best[1]!)).toFixed(5)));
      expect(margin).toBe(best[1]! - best[2]!);
      expect(entropy).toBeCloseTo(-row.reduce((sum, p) => sum + p * Math.log(p), 0), 5);
    }
  });

  it("measures the margin on what was compared, the selection bias included", async () => {
    const bias = biased.parameters.get("layers.1.router.selectionBias");
    biased.engine.write(bias, Float32Array.of(0, 5, 0, 0));
    const routes = await routesOf(biased);
    for (const [t, row] of rows(biased, "choice").entries()) {
      const best = falling(row.map((s, e) => s + (e === 1 ? 5 : 0)));
      expect(routes[t]!.layers[0]!.experts[0]).toBe(1);
      expect(routes[t]!.layers[0]!.margin).toBeCloseTo(best[1]! - best[2]!, 5);
    }
  });

  it("has no margin where every expert is chosen", async () => {
    expect((await routesOf(all)).map(({ layers }) => layers[0]!.margin)).toEqual(Array.from({ length: 19 }, () => null));
  });

  it("names the experts that had no room", async () => {
    const [routes, best] = [await routesOf(crowded), rows(crowded, "scores")];
    let dropped = 0;
    for (const [t, { layers }] of routes.entries()) {
      const route = layers[0]!;
      dropped += route.dropped.length;
      expect([...route.experts, ...route.dropped].sort()).toEqual([0, 1, 2, 3].sort((a, b) => best[t]![b]! - best[t]![a]!).slice(0, 2).sort());
      expect(route.weights.length).toBe(route.experts.length);
    }
    expect(dropped).toBeGreaterThan(0);
    const replay = routedExperts(routes);
    expect(replay.flat().every((experts) => experts.length === 2)).toBe(true);
    expect(replay.flat(2).filter((e) => e === -1).length).toBe(dropped);
  });

  it("is an array [tokens][layers][K] for vLLM's replay", async () => {
    const routes = await routesOf(model, 4);
    expect(routedExperts(routes)).toEqual(routes.map(({ layers }) => layers.map(({ experts }) => experts)));
    expect(routedExperts(routes).length).toBe(19 + 3);
    expect(routedExperts([])).toEqual([]);
  });

  it("is plain data, and changes nothing", async () => {
    const options = { maxTokens: 30, temperature: 1.2, seed: 5 };
    const [plain, traced] = [await collect(model, options), await collect(model, { ...options, trace: true })];
    expect(traced.map((chunk) => ({ ...chunk, routing: undefined }))).toEqual(plain);
    const routes = traced.flatMap(({ routing }) => routing ?? []);
    expect(JSON.parse(JSON.stringify(routes))).toEqual(routes);
  });

  it("reads nothing back unless asked for", async () => {
    const read = model.engine.read.bind(model.engine);
    const count = async (trace: boolean) => {
      let reads = 0;
      model.engine.read = (tensor) => (reads++, read(tensor));
      await collect(model, { maxTokens: 3, temperature: 0, trace });
      return reads;
    };
    try {
      // Per step: the logits, and the experts, which the dispatch plan is made of.
      const [plain, traced] = [await count(false), await count(true)];
      expect(plain).toBeLessThanOrEqual(3 * 3);
      expect(traced).toBeGreaterThanOrEqual(plain + 3 * 3);
    } finally {
      model.engine.read = read;
    }
  });
});
