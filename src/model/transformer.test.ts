import { expect, it, vi } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { LanguageModel } from "./language-model.js";
import { modelConfig, type MoeOptions } from "./presets.js";
import type { RopeConfig } from "./rope.js";
import { forward, forwardInTurns, loss } from "./transformer.js";

it("a pass in turns gives the same bits while another makes the tables of a rotary embedding longer", async () => {
  const config = modelConfig({ vocab: 256, layers: 4, width: 32, heads: 4, context: 1024, moe: { experts: 4, active: 2 } });
  const [rope] = config.ropes as [RopeConfig];
  const factors = (factor: number) => ({ factors: Array.from({ length: rope.rotary / 2 }, () => factor), magnitude: 1 });
  const make = () => LanguageModel.create({ config: { ...config, ropes: [{ ...rope, scaling: factors(1), long: { ...factors(8), beyond: 20 } }] }, seed: 5 });
  using alone = make();
  using shared = make();
  /** The last hidden states of a text of so many tokens. */
  const hidden = async (model: LanguageModel, length: number, afterTurn?: () => void): Promise<ArrayLike<number>> => {
    using arena = new Arena(model.engine);
    const tape = new Tape(model.engine, arena);
    const input = { ids: tape.constant([length], Int32Array.from({ length }, (_, i) => (i * 7) % 256), "i32"), batch: 1 };
    const result = afterTurn === undefined ? forward(tape, model, input) : await forwardInTurns(tape, model, input, afterTurn);
    return Float32Array.from(model.engine.read(result.hidden));
  };
  let turns = 0;
  const together = await Promise.all([30, 300].map((length) => hidden(shared, length, () => turns++)));
  expect(turns).toBe(2 * (config.layers - 1));
  expect(together).toEqual([await hidden(alone, 30), await hidden(alone, 300)]);
});

it("inference reads nothing back before it is asked for the load: it would wait for all ops so far", () => {
  const reference = loadEngine({ engine: "reference" });
  using model = LanguageModel.create({ config: modelConfig({ vocab: 24, width: 8, layers: 3, heads: 2, context: 16, moe: { experts: 4, active: 2, hidden: 8 } }), engine: reference });
  using arena = new Arena(reference, 2 ** 20);
  const tape = new Tape(reference, arena);
  const ids = tape.constant([8], new Int32Array(8), "i32");
  const read = vi.spyOn(reference, "read");
  const { routings } = forward(tape, model, { ids, batch: 1 });
  expect(read).not.toHaveBeenCalled();
  expect(routings.map(({ load }) => load.reduce((a, b) => a + b))).toEqual([16, 16, 16]);
});

it.each<[string, MoeOptions]>([
  ["importance before drops", { router: { capacity: { train: 0.5, eval: 1, drop: "position" } }, balance: { method: "importance", coefficient: 0.5 } }],
  ["load of noisy logits", { router: "shazeer" }],
])("the training loss is the same whether it is recorded or not: %s", (_, moe) => {
  const reference = loadEngine({ engine: "reference" });
  using model = LanguageModel.create({ config: modelConfig({ vocab: 24, width: 8, layers: 3, heads: 2, context: 16, moe: { experts: 4, active: 2, hidden: 8, ...moe } }), engine: reference, seed: 2 });
  model.parameters.requireGradients();
  const [recorded, plain] = [true, false].map((recording) => {
    using arena = new Arena(reference, 2 ** 20);
    const tape = new Tape(reference, arena, { training: true, recording, seed: 5 });
    const ids = tape.constant([32], Int32Array.from({ length: 32 }, (__, i) => (i * i) % 24), "i32");
    return reference.read(loss(tape, model, { ids, batch: 2 }, ids).total)[0];
  });
  expect(plain).toBe(recorded);
});
