import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { describeNative } from "../../test/engines.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { isQuantised } from "../tensor/dtype.js";
import { writeModelGguf } from "./gguf-file.js";
import { LanguageModel } from "./language-model.js";
import { modelConfig } from "./presets.js";
import { byteVocabulary } from "./random-gguf.js";
import { forward, logits } from "./transformer.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-in-place-"));
afterAll(() => rmSync(dir, { recursive: true }));
const file = join(dir, "m.gguf");
const goldens = new URL("../../../shared/goldens/", import.meta.url).pathname;

/** Matrices that the model reads from the file in a quantised type. */
const quantised = ({ parameters }: LanguageModel): string[] =>
  parameters.list.map(({ name }) => name).filter((name) => parameters.experts(name).flat().some(({ dtype }) => isQuantised(dtype)));

/** Matrices of the model in Q8_0 that products take as the file has them, and those that are still taken so after a prompt. */
async function inPlace(model: LanguageModel): Promise<{ loaded: string[]; used: string[] }> {
  await writeModelGguf(file, model.config, model.parameters, { type: "Q8_0", vocabulary: byteVocabulary(model.config.vocab) });
  using read = await LanguageModel.load(file);
  const loaded = quantised(read);
  using arena = new Arena(read.engine, 2 ** 22);
  const tape = new Tape(read.engine, arena);
  logits(tape, read, forward(tape, read, { ids: tape.constant([4], Int32Array.from([5, 6, 7, 8]), "i32"), batch: 1 }).hidden);
  return { loaded, used: quantised(read) };
}

describeNative("no floats are made of quantised matrices", () => {
  it("of a model with a shared expert", async () => {
    const config = modelConfig({ vocab: 64, width: 64, layers: 2, heads: 2, context: 64, hidden: 64, moe: { router: "olmoe", experts: 4, active: 2, hidden: 32, shared: 1 } });
    using model = LanguageModel.create({ config, engine: loadEngine(), seed: 1 });
    const { loaded, used } = await inPlace(model);
    expect(loaded).toEqual(expect.arrayContaining(["embedding", "layers.1.attention.q", "layers.1.experts.up", "layers.1.shared.up", "layers.1.shared.down"]));
    expect(used).toEqual(loaded);
  });

  // Latent attention, a short convolution, Mamba, the delta rule, and shared experts.
  describe.skipIf(!existsSync(goldens))("of published families (needs ../shared/goldens)", () => {
    it.each(["deepseek_v3", "lfm2_moe", "jamba", "qwen3_next", "qwen3_5_moe", "qwen2_moe", "glm4_moe", "gpt_oss"])("%s", async (family) => {
      using model = await LanguageModel.load(join(goldens, family));
      const { loaded, used } = await inPlace(model);
      expect(loaded.length).toBeGreaterThan(0);
      expect(used).toEqual(loaded);
    });
  });
});
