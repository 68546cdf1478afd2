import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { evaluate } from "./evaluate.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-evaluate-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = modelConfig({ vocab: 256, width: 16, layers: 2, heads: 2, context: 8, moe: { experts: 4, active: 2, hidden: 8 } });
const text = "Which expert took which token, and with what weight?";

describe("evaluate", () => {
  const bare = LanguageModel.create({ config, seed: 1 });
  afterAll(() => bare[Symbol.dispose]());

  it("has the same result from a file, from its tokens, and in batches of any size", async () => {
    using model = LanguageModel.create({ config, seed: 1, tokenizer: byteTokenizer() });
    const file = join(root, "text.txt");
    writeFileSync(file, text);
    const tokens = Int32Array.from(Buffer.from(text));
    const whole = await evaluate(model, { data: file });
    expect(whole.tokens).toBe(tokens.length - 1);
    expect(whole.routing.map(({ layer }) => layer)).toEqual([0, 1]);
    for (const settings of [{ data: [file] }, { data: tokens }, { data: tokens, batch: 1 }]) expect((await evaluate(model, settings)).loss).toBeCloseTo(whole.loss, 6);
    expect((await evaluate(model, { data: tokens, context: 4 })).loss).not.toBeCloseTo(whole.loss, 6);
  });

  it("refuses weights that give no number", async () => {
    using broken = LanguageModel.create({ config, seed: 1 });
    const [{ tensor }] = broken.parameters.list as [(typeof broken.parameters.list)[number]];
    broken.engine.fill(tensor, NaN);
    await expect(evaluate(broken, { data: Int32Array.from(Buffer.from(text)) })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DIVERGED", message: expect.stringMatching(/the loss is NaN; the weights are broken/) });
  });

  it("refuses what cannot be read", async () => {
    const refused = (settings: Parameters<typeof evaluate>[1], code: string) => expect(evaluate(bare, settings)).rejects.toMatchObject({ code: `ERR_SWITCHYARD_${code}` });
    await refused({ data: join(root, "text.txt") }, "USAGE");
    await refused({ data: Int32Array.of(1, 256, 2) }, "DATA");
    await refused({} as Parameters<typeof evaluate>[1], "USAGE");
    await refused({ data: Int32Array.of(1, 2), context: 9 }, "USAGE");
    await refused({ data: Int32Array.of(1, 2), batch: 0 }, "USAGE");
    await refused({ data: new Int32Array(50), signal: AbortSignal.abort() }, "ABORTED");
  });
});
