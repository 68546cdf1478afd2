import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { refusal, withWrongValues } from "../../test/malformed.js";
import type { JsonObject } from "../formats/json.js";
import { writeSafetensors } from "../formats/safetensors-writer.js";
import type { ModelConfig } from "../model/config.js";
import { LanguageModel } from "../model/language-model.js";
import { readModel } from "../model/read.js";
import { CharacterTokenizer } from "../tokenizer/characters.js";
import { readTrace } from "./budgets.js";
import { readGolden } from "./golden.js";
import { inspect } from "./inspect.js";
import { recordGolden } from "./record.js";
import { subjectOf } from "./subject.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-malformed-"));
afterAll(() => rmSync(root, { recursive: true }));

const golden: JsonObject = { input_ids: [[1, 2]], decoder_input_ids: [[1, 2]], greedy_prompt_ids: [1], greedy_ids: [2], f32_logit_error: 0.1 };
const codes = ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_UNSUPPORTED"] as const;
const read = (): string | undefined => refusal(() => readGolden(root), codes);
const readJson = (text: string): string | undefined => {
  writeFileSync(join(root, "golden.json"), text);
  return read();
};
beforeAll(() => writeSafetensors(join(root, "golden.safetensors"), [{ name: "logits", dtype: "F32", shape: [1, 2, 3], chunks: () => [new Uint8Array(24)] }]));

describe("golden.json", () => {
  it("a value of another kind in any field is named", () => {
    expect(readJson(JSON.stringify(golden))).toBeUndefined();
    const wrong = withWrongValues(golden);
    expect(wrong.length).toBeGreaterThan(45);
    for (const { path, value, json } of wrong) expect(readJson(JSON.stringify(json)), `${path}: ${JSON.stringify(value)}`).toContain(`golden.json: ${path.split(".")[0]}`);
  });

  it("cut anywhere it is refused by name", () => {
    const text = JSON.stringify(golden);
    for (let length = 0; length < text.length; length++) expect(readJson(text.slice(0, length)), `${length} bytes`).toContain("golden.json: ");
  });

  it("so is its golden.safetensors", () => {
    writeFileSync(join(root, "golden.json"), JSON.stringify(golden));
    const whole = readFileSync(join(root, "golden.safetensors"));
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(join(root, "golden.safetensors"), whole.subarray(0, length));
      expect(read(), `${length} bytes`).toContain("golden.safetensors: ");
    }
  });
});

describe("a model folder", () => {
  const folder = join(root, "model");
  const tokenizer = join(folder, "tokenizer.json");
  const model = LanguageModel.create({ vocab: 3, width: 16, layers: 1, heads: 2, context: 16, moe: { experts: 2, active: 1, hidden: 16 }, seed: 1 });
  const verified = async () => (await inspect(folder)).weights?.verified;
  beforeAll(() => model.save(folder));
  afterAll(() => model[Symbol.dispose]());

  it("is inspected with its tokenizer, which a model may lack; a damaged one is refused as loading does", async () => {
    rmSync(join(folder, "manifest.json"), { force: true });
    expect(await verified()).toBe("names and shapes");
    new CharacterTokenizer(["a", "b", "c"]).save(folder);
    expect(await verified()).toBe("names, shapes and tokenizer");
    const whole = readFileSync(tokenizer);
    for (const damaged of [whole.subarray(0, 0), whole.subarray(0, whole.length / 2), Buffer.from("{}")]) {
      writeFileSync(tokenizer, damaged);
      const { message } = (await readModel(folder).catch((error: unknown) => error)) as Error;
      expect(message).toContain("tokenizer.json: ");
      await expect(inspect(folder)).rejects.toMatchObject({ code: "ERR_SWITCHYARD_FORMAT", message });
    }
    rmSync(tokenizer);
  });

  it("is meant where a file in it is named", async () => {
    await expect(inspect(join(folder, "model.safetensors"))).rejects.toMatchObject({ code: "ERR_SWITCHYARD_CHECKPOINT", message: expect.stringMatching(/model\.safetensors: expected the folder of a model, .* got another file; name the folder that it is in$/) });
    await expect(inspect(join(root, "nowhere"))).rejects.toMatchObject({ code: "ERR_SWITCHYARD_CHECKPOINT", message: expect.stringMatching(/^inspect: .*nowhere.config\.json does not exist/) });
  });

  it("a recording of it replaces nothing", async () => {
    const recorded = join(root, "recorded");
    await recordGolden(subjectOf(model), recorded, { ids: [[0, 1, 2]] });
    const before = readFileSync(join(recorded, "golden.json"), "utf8");
    await expect(recordGolden(subjectOf(model), recorded, { ids: [[2, 1, 0]] })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_USAGE", message: `record: ${recorded} exists; name another folder, or move it away` });
    expect(readFileSync(join(recorded, "golden.json"), "utf8")).toBe(before);
  });
});

describe("a routing trace", () => {
  const path = join(root, "trace.jsonl");
  const entry = '{"layers":[{"layer":0,"experts":[1]}]}';
  const config = { moe: { experts: 2, active: 1 } as ModelConfig["moe"], sparseLayers: [0] };
  const trace = (text: string) => {
    writeFileSync(path, text);
    return readTrace(path, config);
  };

  it("is refused by the command that writes one", () => {
    expect(trace(`${entry}\n${entry}\n`)).toEqual([[1], [1]]);
    for (const [text, number, got] of [["Once upon a time", 1, '"Once upon a time"'], ["", 1, '""'], [`${entry}\n{"layers":`, 2, '"{\\"layers\\":"'], ['{"layers":1}', 1, '"{\\"layers\\":1}"']] as const) {
      const message = `${path}: line ${number}: expected a file that switchyard generate --routing-out wrote, got ${got}; record a trace with: npx switchyard generate MODEL PROMPT --routing-out FILE`;
      expect(() => trace(text)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT", message }));
    }
  });
});
