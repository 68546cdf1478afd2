import { expect, it } from "vitest";
import { loadEngine } from "../engine/load.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { trainOptions } from "./options.js";
import { Trainer } from "./trainer.js";

it.each(["native", "reference"] as const)("norms are those of the gradients, of one batch and of several: %s", (name) => {
  if (name === "native" && loadEngine().name !== "native") return;
  const config = modelConfig({ vocab: 40, width: 32, layers: 2, heads: 2, context: 16, moe: { experts: 4, active: 2, hidden: 24 } });
  for (const accumulation of [1, 3]) {
    const engine = loadEngine({ engine: name });
    using trainer = new Trainer(LanguageModel.create({ config, engine }), trainOptions({ steps: 10, batch: 1, accumulation, learningRate: 1e-2, schedule: "constant" }));
    for (let step = 0; step < 2; step++) {
      const { norms } = trainer.train(() => {
        const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * 7 + step) % 40);
        return { inputs: tokens, targets: tokens, batch: 1 };
      });
      const squares = { dense: 0, expert: 0, router: 0 };
      for (const { group, tensor } of trainer.model.parameters.list) for (const x of tensor.grad === undefined ? [] : engine.read(tensor.grad)) squares[group] += x * x;
      for (const group of ["dense", "expert", "router"] as const) expect(norms[group] / Math.sqrt(squares[group])).toBeCloseTo(1, 6);
      expect(norms.total).toBeCloseTo(Math.hypot(norms.dense, norms.expert, norms.router), 9);
    }
  }
});
