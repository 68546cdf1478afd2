import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { cli, cliJson } from "../../test/cli.js";
import type { GgufValue } from "../formats/gguf/metadata.js";
import { readGgufHeader } from "../formats/gguf/reader.js";
import { writeGguf } from "../formats/gguf/writer.js";
import { Model } from "../generate/model.js";
import type { TokenRoute } from "../generate/routing-record.js";
import { writeModelGguf } from "../model/gguf-file.js";
import { byteTokenizer } from "../tokenizer/bytes.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-generate-"));
const folder = join(root, "model");
const gguf = join(root, "model.gguf");
beforeAll(async () => {
  using model = Model.create({ vocab: 256, layers: 2, width: 16, heads: 2, context: 64, moe: { experts: 4, active: 2 }, seed: 1, tokenizer: byteTokenizer() });
  await model.save(folder);
  await writeModelGguf(gguf, model.config, model.parameters, { type: "F32" });
});
afterAll(() => rmSync(root, { recursive: true }));

const run = ["--max-tokens", "4", "--temperature", "0"];

describe("generate --chat", () => {
  it("gives the model the messages as its template writes them", async () => {
    const chat = join(root, "chat");
    cpSync(folder, chat, { recursive: true });
    writeFileSync(join(chat, "chat_template.jinja"), "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}");
    const { ids } = await cliJson<{ ids: number[] }>("generate", folder, "system: Be.\nuser: Hi\nassistant:", ...run);
    expect(await cliJson("generate", chat, "Hi", "--chat", "--system", "Be.", ...run)).toMatchObject({ prompt: "Hi", ids });
    const { stdout } = await cli(["generate", chat, "Hi", "--chat", ...run]);
    expect(stdout).toMatch(/^Hi\n/);
  });

  it("says when the model has no template, and that --system is for chats", async () => {
    expect(await cli(["generate", folder, "Hi", "--chat", ...run])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("no chat template") });
    expect(await cli(["generate", folder, "Hi", "--system", "x", ...run])).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("--chat") });
  });
});

it("generate has the short names of llama.cpp's flags, and its top-k of 0 for none", async () => {
  vi.stubEnv("SWITCHYARD_THREADS", "2");
  const { ids } = await cliJson<{ ids: number[] }>("generate", folder, "abc", "--max-tokens", "4", "--temperature", "0.5");
  expect(await cliJson("generate", folder, "abc", "-n", "4", "--temp", "0.5", "-t", "1", "--top-k", "0")).toMatchObject({ ids, seed: 1 });
  expect(process.env["SWITCHYARD_THREADS"]).toBe("1");
  vi.unstubAllEnvs();
});

it.each(["random", "-1"])("generate --seed %s says which seed it took", async (random) => {
  const args = ["generate", folder, "abc", "-n", "8", "--temp", "2", "--seed"];
  const { seed, ids } = await cliJson<{ seed: number; ids: number[] }>(...args, random);
  expect(await cliJson(...args, String(seed))).toMatchObject({ seed, ids });
  expect((await cliJson<{ seed: number }>(...args, random)).seed).not.toBe(seed);
  expect((await cli([...args, random])).stderr).toMatch(/tokens\/s, seed \d+$/m);
});

it("generate --logit-bias forbids a token, and asks for another", async () => {
  const { ids: [first] } = await cliJson<{ ids: number[] }>("generate", folder, "abc", ...run);
  const { ids } = await cliJson<{ ids: number[] }>("generate", folder, "abc", ...run, "--logit-bias", `${first}=-Infinity`, "--logit-bias", "7=1e9");
  expect(ids).toEqual([7, 7, 7, 7]);
  const { ids: others } = await cliJson<{ ids: number[] }>("generate", folder, "abc", ...run, "--logit-bias", `${first}=-Infinity`);
  expect(others).not.toContain(first);
  expect(await cli(["generate", folder, "abc", ...run, "--logit-bias", "7"])).toMatchObject({ code: 2, stderr: expect.stringContaining('"17=-2.5"') });
});

describe("generate --routing-out", () => {
  it("writes a line per token that was run, the same as --routing has", async () => {
    const file = join(root, "routes.jsonl");
    const args = ["generate", folder, "abc", ...run, "--routing-out", file];
    const { routing, routed_experts: experts } = await cliJson<{ routing: TokenRoute[]; routed_experts: number[][][] }>(...args, "--routing");
    const lines = readFileSync(file, "utf8").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as TokenRoute)).toEqual(routing);
    expect(routing.map(({ position }) => position)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(experts).toEqual(routing.map(({ layers }) => layers.map((layer) => layer.experts)));
    const plain = await cliJson<object>(...args);
    expect(Object.keys(plain)).not.toContain("routing");
    expect(readFileSync(file, "utf8").trimEnd().split("\n")).toEqual(lines);
  });

  it("says when it cannot", async () => {
    expect(await cli(["generate", folder, "abc", ...run, "--routing-out", join(root, "no/where")])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("ENOENT") });
  });
});

/** A GGUF file in two parts, of which the first has the metadata; returns its path. */
async function split(path: string): Promise<string> {
  const { metadata, tensors } = readGgufHeader(path);
  const bytes = readFileSync(path);
  const all = [...tensors].map(([name, { type, shape, begin, end }]) => ({ name, type, shape, chunks: () => [Uint8Array.from(bytes.subarray(begin, end))] }));
  const parts = [all.slice(0, 5), all.slice(5)];
  for (const [no, part] of parts.entries()) {
    const position = Object.entries({ "split.no": no, "split.count": parts.length, "split.tensors.count": all.length }).map(([key, value]) => [key, { type: "u32", value }] as const);
    await writeGguf(join(root, `split-0000${no + 1}-of-00002.gguf`), new Map<string, GgufValue>([...(no === 0 ? metadata.entries : []), ...position]), part);
  }
  return join(root, "split-00001-of-00002.gguf");
}

describe("a GGUF file in parts", () => {
  it("is generated from and evaluated like the folder that it was made of", async () => {
    const whole = join(root, "whole.gguf");
    await cliJson("convert", folder, whole);
    const first = await split(whole);
    const { ids } = await cliJson<{ ids: number[] }>("generate", folder, "abc", ...run);
    expect(await cliJson("generate", first, "abc", ...run)).toMatchObject({ ids });
    const loss = async (model: string) => (await cliJson<{ loss: number }>("eval", model, "--data", join(folder, "config.json"))).loss;
    expect(await loss(first)).toBe(await loss(folder));
    rmSync(join(root, "split-00002-of-00002.gguf"));
    expect(await cli(["generate", first, "abc", ...run])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("a part of") });
  });
});

describe("a GGUF file without a vocabulary", () => {
  it("is loaded, but takes no text", async () => {
    expect(await cli(["generate", gguf, "abc", ...run])).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("no tokenizer") });
    expect(await cli(["eval", gguf, "--data", folder])).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("no tokenizer") });
    using model = await Model.load(gguf);
    expect(model.tokenizer).toBeUndefined();
  });
});
