import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { loadEngine } from "../engine/load.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { trainOptions } from "./options.js";
import { Trainer } from "./trainer.js";

setFlagsFromString("--expose-gc");
const collectYoung = () => (runInNewContext("gc") as (options: { type: "minor" }) => void)({ type: "minor" });

/** Bytes in V8's old generation, when what is young and alive has moved there. */
function oldBytes(): number {
  collectYoung();
  collectYoung();
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space")?.space_used_size as number;
}

// The reference engine makes arrays of its own in each op.
it.skipIf(loadEngine().name !== "native").each(["mixtral", "switch"] as const)("a training step leaves next to nothing that only a full collection frees: %s", (router) => {
  const config = modelConfig({ vocab: 64, width: 32, layers: 4, heads: 4, context: 16, moe: { experts: 8, active: router === "switch" ? 1 : 2, hidden: 32, router } });
  using trainer = new Trainer(LanguageModel.create({ config }), trainOptions({ steps: 1000, batch: 1, learningRate: 1e-3, schedule: "constant" }));
  const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 64);
  const train = (steps: number) => {
    for (let i = 0; i < steps; i++) trainer.train(() => ({ inputs: tokens, targets: tokens, batch: 1 }));
  };
  train(100);
  const before = oldBytes();
  train(400);
  // The last step's tensors and what V8 compiles meanwhile are most of this. An object literal that begins with a spread gets a hidden class of its own
  // each time: one of them per layer is another 1 to 4 KiB per step.
  expect((oldBytes() - before) / 400).toBeLessThan(3000);
});
