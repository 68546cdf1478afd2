import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, cliJson, tiny } from "../../test/cli.js";
import { readGgufHeader } from "../formats/gguf/reader.js";
import type { Inspection } from "../inspect/inspect.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-convert-"));
const model = join(folder, "model");
const file = join(folder, "model.gguf");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(async () => {
  const text = join(folder, "text.txt");
  writeFileSync(text, "the quick brown fox jumps over the lazy dog. ".repeat(60));
  await cliJson("train", "--data", text, "--out", model, ...tiny, "--width", "32", "--steps", "2");
  await cliJson("convert", model, file);
});

interface Inspected {
  modelType: string;
  parameters: { total: number; active: number };
  layers: unknown;
  config: object;
  weights: { tensors: number; dtypes: string[]; bytes: number; files: number; verified: string };
}

describe("convert", () => {
  it("to GGUF and back leaves the same file of weights, byte for byte", async () => {
    const back = join(folder, "back");
    const result = await cliJson<Record<string, unknown>>("convert", file, back);
    expect(result).toMatchObject({ source: file, target: back, modelType: "mixtral", type: "f32", tokenizer: true, seconds: expect.any(Number) });
    expect(readFileSync(join(back, "model.safetensors")).equals(readFileSync(join(model, "model.safetensors")))).toBe(true);
    expect(readdirSync(back)).toContain("config.json");
  });

  it("keeps the tokenizer: the same text has the same tokens in the file and back in a folder", async () => {
    const back = join(folder, "with-tokenizer");
    expect(await cliJson("convert", file, back)).toMatchObject({ tokenizer: true });
    const args = ["the quick", "--max-tokens", "5"];
    const { ids } = await cliJson<{ ids: number[] }>("generate", model, ...args);
    expect(await cliJson("generate", file, ...args)).toMatchObject({ ids });
    expect(await cliJson("generate", back, ...args)).toMatchObject({ ids });
    expect((await cliJson<{ loss: number }>("eval", file, "--data", join(folder, "text.txt"))).loss).toBe((await cliJson<{ loss: number }>("eval", model, "--data", join(folder, "text.txt"))).loss);
  });

  it("says what it wrote, and where there is no tokenizer", async () => {
    const target = join(folder, "half.gguf");
    const { code, stdout, stderr } = await cli(["convert", model, target, "--type", "F16"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/half\.gguf: mixtral, [\d,]+ parameters in \d+ tensors, .*, \d+\.\d s\n$/);
    const bare = join(folder, "bare");
    await cliJson("convert", model, bare);
    for (const name of ["tokenizer.json", "manifest.json"]) rmSync(join(bare, name));
    const mute = join(folder, "mute.gguf");
    expect((await cli(["convert", bare, mute])).stderr).toBe(`switchyard: ${mute} has no tokenizer: only weights and configuration were written\n`);
  });

  it("keeps the tokenizer from folder to folder", async () => {
    const copy = join(folder, "copy");
    expect(await cliJson("convert", model, copy)).toMatchObject({ tokenizer: true });
    expect(readFileSync(join(copy, "tokenizer.json"))).toEqual(readFileSync(join(model, "tokenizer.json")));
  });

  it("keeps the tokens that end an answer, whichever file has them", async () => {
    const chat = join(folder, "chat");
    await cliJson("convert", model, chat);
    rmSync(join(chat, "manifest.json"));
    rmSync(join(chat, "generation_config.json"));
    const config = JSON.parse(readFileSync(join(chat, "config.json"), "utf8")) as object;
    writeFileSync(join(chat, "config.json"), JSON.stringify({ ...config, eos_token_id: [4, 6] }));
    const [copy, asFile, back] = ["chat-copy", "chat.gguf", "chat-back"].map((name) => join(folder, name)) as [string, string, string];
    await cliJson("convert", chat, copy);
    await cliJson("convert", copy, asFile);
    await cliJson("convert", asFile, back);
    for (const written of [copy, back]) expect(JSON.parse(readFileSync(join(written, "generation_config.json"), "utf8"))).toEqual({ eos_token_id: [4, 6] });
  });

  it.each(["f16", "bf16", "q8_0", "q4_0", "q4_k"])("to %s: matrices in that type, vectors and routers in F32", async (type) => {
    const target = join(folder, `${type}.gguf`);
    const result = await cliJson<{ tensors: number; bytes: number; parameters: number }>("convert", model, target, "--type", type);
    const { tensors, metadata } = readGgufHeader(target);
    expect(result).toMatchObject({ tensors: tensors.size, bytes: statSync(target).size });
    for (const [name, tensor] of tensors) {
      const exact = /norm|gate_inp/.test(name);
      // The experts' hidden width of 16 is half a block; rows of 32 are none of 256.
      const isShort = tensor.shape.at(-1)! < 32;
      const usual = type === "q4_k" ? "Q4_1" : type.toUpperCase();
      const output = type.startsWith("q4") ? "Q8_0" : usual;
      expect([name, tensor.type]).toEqual([name, exact || isShort ? "F32" : name === "output.weight" ? output : usual]);
    }
    expect(metadata.integer("general.file_type")).toBe({ f16: 1, bf16: 32, q8_0: 7, q4_0: 2, q4_k: 14 }[type]);
    expect(result.bytes).toBeLessThan(statSync(file).size);
    // Decoded again it is a model.
    const inspected = await cliJson<Inspected>("inspect", target);
    expect(inspected.parameters.total).toBe(result.parameters);
    expect(await cliJson("convert", target, join(folder, `from-${type}`))).toMatchObject({ parameters: result.parameters });
  });

  it.each<[string, () => string[], number, RegExp]>([
    ["an unknown type", () => [model, join(folder, "x.gguf"), "--type", "q9"], 2, /Allowed choices are f32, f16, bf16, q8_0/],
    ["a missing source", () => [join(folder, "none.gguf"), join(folder, "x")], 1, /none\.gguf does not exist/],
    ["a target without a name", () => [model, ""], 2, /convert: the target: expected the path of a file or folder, got ""/],
    ["a target that exists", () => [model, file], 2, /model\.gguf exists; name another target/],
    ["a folder that exists", () => [file, model], 2, /model exists; name another target/],
    ["a file that is no GGUF", () => [join(folder, "fake.gguf"), join(folder, "x")], 1, /fake\.gguf: magic: expected "GGUF"/],
    ["a folder that is a file", () => [model, join(model, "config.json/x.gguf")], 1, /ENOTDIR, a part of the path is not a folder|EEXIST, a file of that name is in the way/],
  ])("refuses %s", async (_, args, code, message) => {
    writeFileSync(join(folder, "fake.gguf"), "GGML and more");
    expect(await cli(["convert", ...args()])).toMatchObject({ code, stderr: expect.stringMatching(message) });
  });
});

describe("inspect on GGUF", () => {
  it("says the same of a file as of the folder that it was made from", async () => {
    const [a, b] = [await cliJson<Inspected>("inspect", model), await cliJson<Inspected>("inspect", file)];
    expect([b.modelType, b.parameters, b.layers]).toEqual([a.modelType, a.parameters, a.layers]);
    expect(b.config).toEqual(a.config);
    expect(b.weights).toMatchObject({ dtypes: ["F32"], files: 1, bytes: statSync(file).size, verified: "names and shapes" });
  });

  it("estimates memory by what the file has in place of f32", async () => {
    const [full, quantised] = [await cliJson<Inspection>("inspect", file), await cliJson<Inspection>("inspect", join(folder, "q8_0.gguf"))];
    expect(full.memory.weights).toBe(4 * full.parameters.total);
    const stored = Object.values(quantised.weights!.bytesByDtype).reduce((a, b) => a + b);
    // Keys and values in f16 beside quantised weights.
    expect(quantised.memory).toMatchObject({ weights: stored, cache: full.memory.cache / 2 });
  });

  it("tells people the types, and what is wrong with a damaged file", async () => {
    const shown = await cli(["inspect", join(folder, "q8_0.gguf")]);
    expect(shown).toMatchObject({ code: 0, stdout: expect.stringMatching(/architecture\s+MixtralForCausalLM[\s\S]*23 tensors: F32 17\.6 KiB, Q8_0 34\.0 KiB/) });
    mkdirSync(join(folder, "damaged"));
    const damaged = join(folder, "damaged/model.gguf");
    writeFileSync(damaged, readFileSync(file).subarray(0, -1000));
    expect(await cli(["inspect", damaged])).toMatchObject({ code: 1, stderr: expect.stringMatching(/model\.gguf: tensor ".*": offset: expected its bytes to end within the file/) });
  });
});
