import { describe, expect, it } from "vitest";
import { nativeVariants } from "../../test/engines.js";
import type { Engine } from "../engine/engine.js";
import { loadEngine } from "../engine/load.js";
import { ReferenceEngine } from "../engine/reference.js";
import { Random } from "../tensor/random.js";
import { calibrate, type Window } from "./calibrate.js";
import { LanguageModel } from "./language-model.js";
import type { ParameterSource } from "./mapped.js";
import { modelConfig } from "./presets.js";

const config = modelConfig({ vocab: 64, width: 32, layers: 2, heads: 2, context: 16, moe: { experts: 4, active: 2, hidden: 16, shared: 1 } });
const native = nativeVariants.slice(-1).map((isa): [string, () => Engine] => [`native ${isa}`, () => loadEngine({ engine: "native", isa })]);
const engines: [string, () => Engine][] = [["reference", () => new ReferenceEngine({ float: "f32" })], ...native];

/** A new model's parameters as files have them; `change` is given each one's elements. */
function sourcesOf(engine: Engine, change: (name: string, x: Float32Array) => void = () => undefined, of = config): ReadonlyMap<string, ParameterSource> {
  using model = LanguageModel.create({ config: of, engine, seed: 3 });
  return new Map(
    model.parameters.list.map(({ name, tensor }) => {
      const values = Float32Array.from(engine.read(tensor));
      change(name, values);
      return [name, { read: (to, target) => to.write(target, values) }];
    }),
  );
}

function* windows(): Generator<Window> {
  const random = new Random(1);
  for (let i = 0; i < 40; i++) yield { inputs: Int32Array.from({ length: 32 }, () => random.below(64)), batch: 2 };
}

describe.each(engines)("calibration on %s", (_, make) => {
  it("takes the root mean square of every input, of experts over their own tokens", async () => {
    const engine = make();
    const { importance, experts, tokens } = await calibrate(engine, config, sourcesOf(engine), windows(), { expertTokens: 0, usual: 200 });
    expect(tokens).toBe(224); // seven windows of 32
    const names = ["attention.q", "attention.k", "attention.v", "attention.out", "router.weight", "experts.up", "experts.down", "shared.up", "shared.down", "shared.gate"];
    expect([...importance.keys()].toSorted()).toEqual([...[0, 1].flatMap((l) => names.map((name) => `layers.${l}.${name}`)), config.tiedEmbeddings ? "embedding" : "head"].toSorted());
    for (const { layer, tokens: seen } of experts) {
      expect(seen.reduce((a, b) => a + b)).toBe(2 * tokens);
      const [router] = importance.get(`layers.${layer}.router.weight`)!;
      const up = importance.get(`layers.${layer}.experts.up`)!;
      expect([up.length, importance.get(`layers.${layer}.shared.up`)!]).toEqual([4, [router]]);
      // What all experts saw is twice what the router saw; the layer's average counts as 16 tokens of each.
      router!.forEach((rms, c) => {
        const mean = up.reduce((sum, vector, e) => sum + vector[c]! ** 2 * (seen[e]! + 16), 0) / (2 * tokens + 4 * 16);
        expect(Math.sqrt(mean)).toBeCloseTo(rms, 4);
      });
      expect(up[0]).not.toEqual(up[1]);
    }
  });

  it("takes what all heads of latent attention make values of", async () => {
    const engine = make();
    const mixers = [{ kind: "latent", rope: 0 }, ...config.mixers.slice(1)] as const;
    const latent = { ...config, mixers, headDim: 24, latent: { rank: 12, unrotated: 8, value: 10, normEps: 1e-6 }, ropes: [{ theta: 10000, rotary: 16, interleaved: true }] };
    const { importance } = await calibrate(engine, latent, sourcesOf(engine, undefined, latent), windows(), { expertTokens: 0, usual: 200 });
    const [rms, ...others] = importance.get("layers.0.attention.kvUp")!;
    expect(others).toEqual([]);
    // A mean of short vectors, whose norm is that of 12 ones: no mean square is above 1, and at the first tokens of a text little is averaged.
    const meanSquare = rms!.reduce((sum, x) => sum + x ** 2, 0) / 12;
    expect(rms!.length).toBe(12);
    expect(meanSquare).toBeGreaterThan(0.1);
    expect(meanSquare).toBeLessThanOrEqual(1);
  });

  it("gives back its memory when it is stopped", async () => {
    const engine = make();
    const sources = sourcesOf(engine);
    const before = engine.allocatedBytes;
    const stop = new AbortController();
    function* stopped(): Generator<Window> {
      for (const window of windows()) {
        yield window;
        stop.abort();
      }
    }
    await expect(calibrate(engine, config, sources, stopped(), { expertTokens: 0, usual: 200, signal: stop.signal })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_ABORTED" });
    expect(engine.allocatedBytes).toBe(before);
  });

  it("reads on until the rarest expert has seen enough, or the text ends", async () => {
    const engine = make();
    const enough = await calibrate(engine, config, sourcesOf(engine), windows(), { expertTokens: 150, usual: 32 });
    const fewest = Math.min(...enough.experts.flatMap(({ tokens }) => tokens));
    expect(fewest).toBeGreaterThanOrEqual(150);
    expect(fewest).toBeLessThan(150 + 32);
    expect(enough.tokens).toBeLessThan(40 * 32);
    const all = await calibrate(engine, config, sourcesOf(engine), windows(), { expertTokens: 1e9, usual: 32 });
    expect(all.tokens).toBe(40 * 32);
  });

  it("refuses activations that are not finite", async () => {
    const engine = make();
    const sources = sourcesOf(engine, (name, x) => name === "layers.0.attention.v" && x.fill(3e38));
    await expect(calibrate(engine, config, sources, windows(), { expertTokens: 0, usual: 32 })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DATA", message: expect.stringMatching(/what "layers\.0\..*" is multiplied with is not finite/) });
  });

  it("stops when it is told to", async () => {
    const engine = make();
    await expect(calibrate(engine, config, sourcesOf(engine), windows(), { expertTokens: 0, usual: 1e6, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_ABORTED" });
  });
});
