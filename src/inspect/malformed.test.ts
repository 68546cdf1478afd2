import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { refusal, withWrongValues } from "../../test/malformed.js";
import type { JsonObject } from "../formats/json.js";
import { writeSafetensors } from "../formats/safetensors-writer.js";
import { readGolden } from "./golden.js";

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
