import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { refusal, withWrongValues } from "../../test/malformed.js";
import { BatchSampler } from "../data/batches.js";
import { verifyFolder } from "../formats/folder.js";
import type { JsonObject } from "../formats/json.js";
import { readRunState } from "./checkpoint.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-malformed-"));
afterAll(() => rmSync(root, { recursive: true }));

const state: JsonObject = {
  step: 1, updates: 1, skipped: 0, tokens: 64, sampler: { drawn: 2 }, data: "0".repeat(64), best: { step: 1, loss: 2 }, options: {}, model: {},
};
const codes = ["ERR_SWITCHYARD_CHECKPOINT", "ERR_SWITCHYARD_FORMAT"] as const;
const read = (text: string): string | undefined => {
  writeFileSync(join(root, "trainer.json"), text);
  return refusal(() => readRunState(root), codes);
};

describe("trainer.json", () => {
  it("a value of another kind in any field is named", () => {
    expect(read(JSON.stringify(state))).toBeUndefined();
    const wrong = withWrongValues(state).filter(({ path, value }) => path !== "best.loss" || value !== -1.5);
    expect(wrong.length).toBeGreaterThan(30);
    for (const { path, value, json } of wrong) {
      if (!/^(options|model|sampler)/.test(path)) expect(read(JSON.stringify(json)), `${path}: ${JSON.stringify(value)}`).toContain(`trainer.json: ${path}`);
    }
  });

  it("a missing field, and one that is not known, are named", () => {
    for (const key of Object.keys(state)) {
      const { [key]: _, ...rest } = state;
      if (!/^(options|model|sampler)$/.test(key)) expect(read(JSON.stringify(rest)), key).toContain(`trainer.json: ${key}`);
    }
    expect(read(JSON.stringify({ ...state, extra: 1 }))).toContain('"extra"');
  });

  it("cut anywhere it is refused by name", () => {
    const text = JSON.stringify(state);
    for (let length = 0; length < text.length; length++) expect(read(text.slice(0, length)), `${length} bytes`).toContain("trainer.json: ");
  });

  it("a cursor that no sampler can have is refused", () => {
    const sampler = new BatchSampler(Int32Array.from({ length: 40 }), { context: 8, batch: 1, seed: 1, order: "shuffled" });
    for (const wrong of [null, undefined, 1, "x", [], {}, { drawn: -1 }, { drawn: 0.5 }, { drawn: 2 ** 53 }, { drawn: "1" }, { drawn: null }]) expect(refusal(() => sampler.restore(wrong), codes)).toMatch(/^sampler: /);
  });
});

describe("manifest.json", () => {
  const manifest = { files: { "a/b.bin": { bytes: 3, sha256: "0".repeat(64) } } };
  const verify = async (text: string): Promise<string | undefined> => {
    writeFileSync(join(root, "manifest.json"), text);
    const error = await verifyFolder(root).then(() => undefined, (reason: unknown) => reason);
    return refusal(() => { if (error !== undefined) throw error; }, codes);
  };
  mkdirSync(join(root, "a"));
  writeFileSync(join(root, "a/b.bin"), "abc");

  it("a value of another kind in any field is named", async () => {
    expect(await verify(JSON.stringify(manifest))).toBeUndefined();
    for (const { path, value, json } of withWrongValues(manifest)) expect(await verify(JSON.stringify(json)), `${path}: ${JSON.stringify(value)}`).toContain(`manifest.json: ${path}`);
  });

  it.each(["..", ".", "", "/a", "../a", "a/../b", "a/./b", "a//b", "a/", "a\\b", "a/..", "./a", "a\0b"])("a path that leaves the folder is refused: %j", async (name) => {
    expect(await verify(JSON.stringify({ files: { [name]: manifest.files["a/b.bin"] } }))).toContain("manifest.json: files");
  });

  it("cut anywhere it is refused by name", async () => {
    const text = JSON.stringify(manifest);
    for (let length = 0; length < text.length; length++) expect(await verify(text.slice(0, length)), `${length} bytes`).toContain("manifest.json: ");
  });
});
