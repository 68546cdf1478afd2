import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { GgufValue } from "./metadata.js";
import { openGguf } from "./open.js";
import { readGgufHeader } from "./reader.js";
import { type GgufTensorToWrite, writeGguf } from "./writer.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-gguf-"));
afterAll(() => rmSync(dir, { recursive: true }));
const path = join(dir, "x.gguf");

const values: [string, GgufValue][] = [
  ["general.architecture", { type: "string", value: "llama" }],
  ["a.u8", { type: "u8", value: 255 }],
  ["a.i8", { type: "i8", value: -1 }],
  ["a.u16", { type: "u16", value: 65535 }],
  ["a.i16", { type: "i16", value: -2 }],
  ["a.u32", { type: "u32", value: 2 ** 32 - 1 }],
  ["a.i32", { type: "i32", value: -3 }],
  ["a.f32", { type: "f32", value: 0.5 }],
  ["a.yes", { type: "bool", value: true }],
  ["a.no", { type: "bool", value: false }],
  ["a.u64", { type: "u64", value: 2n ** 64n - 1n }],
  ["a.i64", { type: "i64", value: -(2n ** 62n) - 1n }],
  ["a.f64", { type: "f64", value: 0.1 }],
  ["a.text", { type: "string", value: "na\u00efve \u{1f642}\n" }],
  ["a.texts", { type: "array", of: "string", value: ["", "\u0120the", "x"] }],
  ["a.floats", { type: "array", of: "f32", value: Float32Array.of(1, -2.5) }],
  ["a.longs", { type: "array", of: "i64", value: BigInt64Array.of(-1n, 2n ** 60n) }],
  ["a.flags", { type: "array", of: "bool", value: Uint8Array.of(1, 0) }],
  ["a.nested", { type: "array", of: "array", value: [{ type: "array", of: "u16", value: Uint16Array.of(1, 2) }, { type: "array", of: "string", value: ["y"] }] }],
  ["a.empty", { type: "array", of: "u32", value: new Uint32Array() }],
];

function tensor(name: string, type: GgufTensorToWrite["type"], shape: readonly number[], bytes: number): GgufTensorToWrite {
  const data = Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + bytes) & 255);
  return { name, type, shape, chunks: () => [data.subarray(0, 5), data.subarray(5)] };
}

const tensors = [tensor("b", "F32", [2, 3], 24), tensor("a", "Q8_0", [3, 64], 204), tensor("experts", "Q4_K", [2, 3, 256], 864), tensor("one", "F16", [], 2)];

describe("GGUF round trip", () => {
  it("gives back every value, name, type, shape and byte", async () => {
    await writeGguf(path, new Map(values), tensors);
    const { metadata, tensors: found, fileBytes } = readGgufHeader(path);
    expect([...metadata.entries]).toEqual(values);
    expect([...found.keys()]).toEqual(tensors.map(({ name }) => name));
    const bytes = readFileSync(path);
    expect(fileBytes).toBe(bytes.length);
    for (const { name, type, shape, chunks } of tensors) {
      const { begin, end, ...rest } = found.get(name)!;
      expect(rest).toEqual({ type, shape, file: path });
      expect(begin % 32).toBe(0);
      expect(bytes.subarray(begin, end)).toEqual(Buffer.concat([...(chunks() as Uint8Array[])]));
    }
    expect(readdirSync(dir)).toEqual(["x.gguf"]);
  });

  it("takes a vocabulary of 200,000 tokens", async () => {
    const tokens = Array.from({ length: 200_000 }, (_, i) => `token ${i}`);
    await writeGguf(path, new Map([["tokenizer.ggml.tokens", { type: "array", of: "string", value: tokens }]]), []);
    expect(readGgufHeader(path).metadata.entries.get("tokenizer.ggml.tokens")?.value).toEqual(tokens);
  });

  it("typed getters name the key", async () => {
    await writeGguf(path, new Map(values), []);
    const { metadata: m } = readGgufHeader(path);
    expect([m.string("a.text"), m.integer("a.u8"), m.integer("a.u32"), m.number("a.f64"), m.number("a.i16"), m.boolean("a.no")]).toEqual(["na\u00efve \u{1f642}\n", 255, 2 ** 32 - 1, 0.1, -2, false]);
    expect([m.string("none", "x"), m.integer("none", 0), m.number("none", 1.5), m.boolean("none", false), m.has("none"), m.has("a.no")]).toEqual(["x", 0, 1.5, false, false, true]);
    const message = (get: () => unknown) => {
      try {
        return get();
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_SWITCHYARD_FORMAT" });
        return (error as Error).message.replace(`${path}: `, "");
      }
    };
    expect(message(() => m.string("none"))).toBe('metadata "none": expected a string, the key is missing');
    expect(message(() => m.integer("a.i32", 7))).toBe('metadata "a.i32": expected a non-negative integer, got i32 -3');
    expect(message(() => m.integer("a.u64"))).toBe('metadata "a.u64": expected a non-negative integer, got u64 18446744073709551615');
    expect(message(() => m.integer("a.f32"))).toBe('metadata "a.f32": expected a non-negative integer, got f32 0.5');
    expect(message(() => m.number("a.texts"))).toBe('metadata "a.texts": expected a finite number, got an array of string');
    expect(message(() => m.boolean("a.u8"))).toBe('metadata "a.u8": expected a boolean, got u8 255');
  });

  it("leaves the old file and nothing else where writing fails", async () => {
    await writeGguf(path, new Map(), [tensors[0]!]);
    const before = readFileSync(path);
    const short = { ...tensors[0]!, chunks: () => [new Uint8Array(23)] };
    await expect(writeGguf(path, new Map(), [short])).rejects.toThrow('write GGUF: tensor "b": expected 24 bytes, got 23');
    await expect(writeGguf(path, new Map(), [tensor("t", "Q8_0", [4, 48], 204)])).rejects.toThrow(/rows of 48 elements are not whole blocks of 32, as Q8_0 needs/);
    await expect(writeGguf(path, new Map(), [tensors[0]!, tensors[0]!])).rejects.toThrow(/tensor "b" is given twice/);
    await expect(writeGguf(join(path, "x.gguf"), new Map(), [])).rejects.toMatchObject({ code: "ERR_SWITCHYARD_IO" });
    expect(readFileSync(path)).toEqual(before);
    expect(readdirSync(dir)).toEqual(["x.gguf"]);
  });
});

describe("split GGUF", () => {
  const u16 = (value: number): GgufValue => ({ type: "u16", value });
  /** Three parts, of which `change` may spoil one. */
  async function split(change: (part: { metadata: Map<string, GgufValue>; tensors: GgufTensorToWrite[]; name: string }, i: number) => void = () => undefined): Promise<string> {
    const folder = mkdtempSync(join(dir, "split-"));
    for (let i = 0; i < 3; i++) {
      const metadata = new Map<string, GgufValue>([["split.no", u16(i)], ["split.count", u16(3)], ["split.tensors.count", { type: "i32", value: 3 }]]);
      if (i === 0) metadata.set("general.name", { type: "string", value: "whole" });
      const part = { metadata, tensors: [tensor(`t${i}`, "F32", [i + 1], 4 * (i + 1))], name: `m-0000${i + 1}-of-00003.gguf` };
      change(part, i);
      if (part.name !== "") await writeGguf(join(folder, part.name), part.metadata, part.tensors);
    }
    return join(folder, "m-00001-of-00003.gguf");
  }

  it("is opened by its first file", async () => {
    const { metadata, tensors: found, files, fileBytes } = openGguf(await split());
    expect(metadata.string("general.name")).toBe("whole");
    expect([...found].map(([name, { shape }]) => [name, ...shape])).toEqual([["t0", 1], ["t1", 2], ["t2", 3]]);
    expect(new Set([...found.values()].map(({ file }) => file))).toEqual(new Set(files));
    expect(fileBytes).toBe(files.reduce((sum, file) => sum + readFileSync(file).length, 0));
  });

  it("is opened by a link to it", async () => {
    const first = await split();
    const link = join(mkdtempSync(join(dir, "link-")), "whole.gguf");
    symlinkSync(first, link);
    expect([...openGguf(link).tensors.keys()]).toEqual(["t0", "t1", "t2"]);
  });

  it.each<[string, Parameters<typeof split>[0], RegExp]>([
    ["a part is missing", (part, i) => i === 1 && (part.name = ""), /m-00002-of-00003\.gguf: a part of .* is missing; put all 3/],
    ["a part has another number", (part, i) => i === 2 && part.metadata.set("split.no", u16(1)), /m-00003.*: metadata "split.no": expected 2, got 1/],
    ["a part has no number", (part, i) => i === 2 && part.metadata.delete("split.no"), /m-00003.*: metadata "split.no": .* missing/],
    ["a part belongs to another split", (part, i) => i === 1 && part.metadata.set("split.count", u16(4)), /m-00002.*: metadata "split.count": expected 3, got 4/],
    ["the first says another count", (part, i) => i === 0 && part.metadata.set("split.count", u16(4)), /metadata "split.count": the model is in 4 files; name the first/],
    ["a tensor is in two parts", (part, i) => i === 2 && part.tensors.splice(0, 1, tensor("t1", "F32", [1], 4)), /m-00003.*: tensor "t1": it is in .*m-00002.* too/],
    ["a tensor is in none", (part, i) => i === 0 && part.metadata.set("split.tensors.count", { type: "i32", value: 4 }), /metadata "split.tensors.count": expected 4 tensors in all files, got 3/],
    ["the tensor count is missing", (part, i) => i === 0 && part.metadata.delete("split.tensors.count"), /metadata "split.tensors.count": .* missing/],
  ])("is refused if %s", async (_, change, message) => {
    const first = await split(change as never);
    expect(() => openGguf(first)).toThrow(message);
  });

  it("is refused by the name of another part", async () => {
    const first = await split();
    expect(() => openGguf(first.replace("00001", "00002"))).toThrow(/name the first, whose name ends with "-00001-of-00003.gguf"/);
  });
});

const shared = new URL("../../../../shared/data/gguf-vocab/", import.meta.url).pathname;

describe.skipIf(!existsSync(shared))("vocabularies of llama.cpp (needs ../shared/data)", () => {
  it.each(existsSync(shared) ? readdirSync(shared).filter((name) => name.endsWith(".gguf")) : [])("%s", (name) => {
    const { metadata, tensors: found } = openGguf(join(shared, name));
    const tokens = metadata.entries.get("tokenizer.ggml.tokens");
    expect(tokens).toMatchObject({ type: "array", of: "string" });
    expect((tokens!.value as string[]).length).toBeGreaterThan(30_000);
    expect(found.size).toBe(0);
  });
});

it("is a clear error where there is no file", () => {
  mkdirSync(join(dir, "folder.gguf"));
  expect(() => readGgufHeader(join(dir, "folder.gguf"))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT" }));
  expect(() => readGgufHeader(join(dir, "none.gguf"))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO" }));
  writeFileSync(join(dir, "empty.gguf"), "");
  expect(() => readGgufHeader(join(dir, "empty.gguf"))).toThrow(/magic: expected 4 bytes at 0, the file ends after 0 of them; the file is cut short: 0 of at least 4 bytes/);
});
