import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { SwitchyardError } from "../errors.js";
import { readSafetensorsHeader, type SafetensorsDtype } from "./safetensors.js";
import { type TensorToWrite, writeSafetensors } from "./safetensors-writer.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-safetensors-"));
afterAll(() => rmSync(dir, { recursive: true }));
const path = join(dir, "x.safetensors");

function tensor(name: string, dtype: SafetensorsDtype, shape: readonly number[], bytes: Uint8Array): TensorToWrite {
  // Odd pieces, so that chunk borders do not coincide with elements.
  return { name, dtype, shape, chunks: () => [bytes.subarray(0, 3), bytes.subarray(3)] };
}

/** A file with this header and `dataBytes` zero bytes of data. */
function file(header: string | Uint8Array, dataBytes = 0, headerLength?: bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

/** The error that reading `bytes` as a file gives, or undefined. Anything but a typed error about the format fails the test. */
function refusal(bytes: Uint8Array): string | undefined {
  writeFileSync(path, bytes);
  try {
    readSafetensorsHeader(path);
    return undefined;
  } catch (error) {
    if (!(error instanceof SwitchyardError) || error.code !== "ERR_SWITCHYARD_FORMAT") throw error;
    expect(error.message.startsWith(path)).toBe(true);
    return error.message.slice(path.length + 2);
  }
}

const good = '"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}';

describe("safetensors round trip", () => {
  it("gives back names, types, shapes and bytes, whatever their order", async () => {
    const bytes = Uint8Array.from({ length: 40 }, (_, i) => i);
    const tensors = [
      tensor("b.weight", "F32", [2, 3], bytes.subarray(0, 24)),
      tensor("a.bias", "BF16", [5], bytes.subarray(24, 34)),
      tensor("a.empty", "I64", [0, 7], new Uint8Array()),
      tensor("__proto", "U8", [], bytes.subarray(39)),
      tensor("f4", "F4", [2, 3], bytes.subarray(1, 4)),
    ];
    await writeSafetensors(path, tensors, { format: "pt", note: '"\n' });
    const first = readFileSync(path);
    const header = readSafetensorsHeader(path);
    expect(header.metadata).toEqual({ format: "pt", note: '"\n' });
    expect(header.dataStart % 8).toBe(0);
    expect([...header.tensors.keys()].toSorted()).toEqual(["__proto", "a.bias", "a.empty", "b.weight", "f4"]);
    for (const { name, dtype, shape, chunks } of tensors) {
      const found = header.tensors.get(name);
      expect(found).toMatchObject({ dtype, shape });
      expect([...first.subarray(found?.begin, found?.end)]).toEqual([...(chunks() as Uint8Array[])].flatMap((c) => [...c]));
    }
    await writeSafetensors(path, tensors.toReversed(), { format: "pt", note: '"\n' });
    expect(readFileSync(path).equals(first)).toBe(true);
  });

  it("accepts what other writers do: no metadata, trailing spaces, unaligned data, no tensors, ties of empty tensors", () => {
    const odd = `{"z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"e":{"dtype":"F32","shape":[0],"data_offsets":[1,1]},"f":{"data_offsets":[1,5],"shape":[1],"dtype":"F32"}}`;
    expect(refusal(file(`${odd}   `, 5))).toBeUndefined();
    const { tensors } = readSafetensorsHeader(path);
    expect((tensors.get("f")?.begin ?? 0) % 4).not.toBe(0);
    expect(refusal(file("{}"))).toBeUndefined();
  });

  it("leaves nothing behind when a tensor is short, given twice, or the disk is full", async () => {
    rmSync(path, { force: true });
    await expect(writeSafetensors(path, [tensor("a", "F32", [2], new Uint8Array(7))])).rejects.toThrow('tensor "a": expected 8 bytes, got 7');
    const twice = tensor("a", "U8", [1], new Uint8Array(1));
    await expect(writeSafetensors(path, [twice, twice])).rejects.toThrow("given twice");
    expect(() => readFileSync(path)).toThrow("ENOENT");
    await expect(writeSafetensors("/dev/full", [twice])).rejects.toMatchObject({ code: "ERR_SWITCHYARD_IO", message: expect.stringContaining("the disk is full") });
    await expect(writeSafetensors(join(dir, "no/such"), [twice])).rejects.toMatchObject({ code: "ERR_SWITCHYARD_IO" });
  });
});

const one = (fields: string, name = '"a"') => file(`{${name}:{${fields}}}`, 24);
const field = (dtype: string, shape: string, offsets: string) => one(`"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}`);
const deep = "[".repeat(1000);

/** Each malformed file with the part of the message that names what is wrong. */
const malformed: [string, Uint8Array, string][] = [
  ["empty file", new Uint8Array(), "header length"],
  ["seven bytes", new Uint8Array(7), "header length"],
  ["header length 0", file("", 0), "header length"],
  ["header length 1", file("{", 0), "header length"],
  ["header length beyond the file", file("{}", 0, 3n), "header length"],
  ["header length 2^63", file("{}", 0, 2n ** 63n), "header length"],
  ["header length 2^64 - 1", file("{}", 0, 2n ** 64n - 1n), "header length"],
  ["a zip archive", Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 0, 0, 0), "header length"],
  ["header starts with a space", file(" {}"), 'start with "{"'],
  ["header is an array", file("[]"), 'start with "{"'],
  ["header is cut", file(`{${good}`, 24), 'header: expected "," or "}"'],
  ["header has two values", file(`{${good}}{}`, 24), "header: expected nothing after the value"],
  ["header ends in zeros", file(`{${good}}\0`, 24), "header: expected nothing after the value"],
  ["header is not UTF-8", file(Uint8Array.of(0x7b, 0xff, 0x7d)), "not valid UTF-8"],
  ["overlong UTF-8", file(Uint8Array.of(0x7b, 0x22, 0xc0, 0x80, 0x22, 0x7d)), "not valid UTF-8"],
  ["lone surrogate in a name", one('"dtype":"F32"', '"\\ud800"'), "lone surrogate"],
  ["duplicate tensor", file(`{${good},${good}}`, 24), "a: duplicate key"],
  ["duplicate metadata", file(`{"__metadata__":{},"__metadata__":{},${good}}`, 24), "__metadata__: duplicate key"],
  ["duplicate metadata key", file(`{"__metadata__":{"k":"1","k":"2"},${good}}`, 24), "__metadata__.k: duplicate key"],
  ["duplicate field", one('"dtype":"F32","dtype":"F32","shape":[6],"data_offsets":[0,24]'), "a.dtype: duplicate key"],
  ["tensor called __proto__", one('"dtype":"F32","shape":[6],"data_offsets":[0,24]', '"__proto__"'), '"__proto__"'],
  ["field called __proto__", one('"__proto__":{},"dtype":"F32","shape":[6],"data_offsets":[0,24]'), 'a: the key "__proto__"'],
  ["metadata is a string", file(`{"__metadata__":"x",${good}}`, 24), "__metadata__: expected an object"],
  ["metadata is null", file(`{"__metadata__":null,${good}}`, 24), "__metadata__: expected an object"],
  ["metadata value is a number", file(`{"__metadata__":{"k":1},${good}}`, 24), '__metadata__: "k": expected a string'],
  ["metadata value is an object", file(`{"__metadata__":{"k":{}},${good}}`, 24), '__metadata__: "k": expected a string'],
  ["tensor is null", file('{"a":null}'), 'tensor "a": expected an object'],
  ["tensor is an array", file('{"a":[]}'), 'tensor "a": expected an object'],
  ["tensor is a number", file('{"a":1}'), 'tensor "a": expected an object'],
  ["tensor is empty", one(""), 'tensor "a": dtype'],
  ["no dtype", one('"shape":[6],"data_offsets":[0,24]'), 'tensor "a": dtype'],
  ["no shape", one('"dtype":"F32","data_offsets":[0,24]'), 'tensor "a": shape'],
  ["no offsets", one('"dtype":"F32","shape":[6]'), 'tensor "a": data_offsets'],
  ["unknown field", one('"dtype":"F32","shape":[6],"data_offsets":[0,24],"x":1'), 'tensor "a": "x": unknown field'],
  ["unknown dtype", field('"F31"', "[6]", "[0,24]"), "dtype: expected one of BOOL"],
  ["dtype in small letters", field('"f32"', "[6]", "[0,24]"), "dtype"],
  ["dtype of Object.prototype", field('"toString"', "[6]", "[0,24]"), "dtype"],
  ["dtype is a number", field("32", "[6]", "[0,24]"), "dtype"],
  ["shape is a number", field('"F32"', "6", "[0,24]"), "shape"],
  ["shape holds a string", field('"F32"', '["6"]', "[0,24]"), "shape"],
  ["shape holds a shape", field('"F32"', "[[6]]", "[0,24]"), "shape"],
  ["negative dimension", field('"F32"', "[-6]", "[0,24]"), "a.shape.0"],
  ["minus zero", field('"F32"', "[-0]", "[0,24]"), "a.shape.0"],
  ["fractional dimension", field('"F32"', "[6.0]", "[0,24]"), "a.shape.0"],
  ["exponent in a dimension", field('"F32"', "[6e0]", "[0,24]"), "a.shape.0"],
  ["unsafe dimension", field('"F32"', "[9007199254740992]", "[0,24]"), "a.shape.0"],
  ["nine dimensions", field('"F32"', "[6,1,1,1,1,1,1,1,1]", "[0,24]"), "shape: expected at most 8"],
  ["product overflows 2^53", field('"F32"', "[4294967296,4294967296]", "[0,24]"), "data_offsets: expected a whole number of bytes"],
  ["product wraps to 24 in 64 bits", field('"F32"', "[4611686018427387904,6]", "[0,24]"), "a.shape.0"],
  ["shape too large", field('"F32"', "[7]", "[0,24]"), "data_offsets: expected 28 bytes"],
  ["shape too small", field('"F32"', "[5]", "[0,24]"), "data_offsets: expected 20 bytes"],
  ["half a byte", field('"F4"', "[3]", "[0,24]"), "a whole number of bytes"],
  ["offsets is an object", field('"F32"', "[6]", "{}"), "data_offsets: expected two integers"],
  ["one offset", field('"F32"', "[6]", "[24]"), "data_offsets: expected two integers"],
  ["three offsets", field('"F32"', "[6]", "[0,24,24]"), "data_offsets: expected two integers"],
  ["offsets reversed", field('"F32"', "[6]", "[24,0]"), "data_offsets: expected begin <= end"],
  ["offset as a string", field('"F32"', "[6]", '["0","24"]'), "data_offsets: expected two integers"],
  ["negative offset", field('"F32"', "[6]", "[-24,0]"), "a.data_offsets.0"],
  ["end beyond the file", field('"F32"', "[7]", "[0,28]"), "data_offsets: expected begin <= end <= 24"],
  ["begin beyond the file", field('"F32"', "[0]", "[25,25]"), "data_offsets: expected begin <= end <= 24"],
  ["hole at the start", field('"F32"', "[5]", "[4,24]"), "the 4 bytes before it belong to no tensor"],
  ["data after the last tensor", field('"F32"', "[5]", "[0,20]"), "the last 4 bytes"],
  ["hole in the middle", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3), 'tensor "b": data_offsets: the 1 bytes'],
  ["overlap", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), 'tensor "b": data_offsets: overlaps tensor "a"'],
  ["two tensors on the same bytes", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2), "overlaps"],
  ["empty tensor inside another", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}`, 2), "overlaps"],
  ["long name", one('"dtype":"F32","shape":[6],"data_offsets":[0,24]', `"${"n".repeat(351)}"`), "name: expected at most 350 bytes"],
  ["name long in UTF-8", one('"dtype":"F32","shape":[6],"data_offsets":[0,24]', `"${"\u4e2d".repeat(117)}"`), "name: expected at most 350 bytes"],
  ["nested arrays", field('"F32"', `${deep}6`, "[0,24]"), "nested deeper"],
  ["nested objects", file(`{"a":{"dtype":${'{"a":'.repeat(1000)}`), "nested deeper"],
  ["control character in a name", one('"dtype":"F32","shape":[6],"data_offsets":[0,24]', '"a\n"'), "control character"],
];

describe("malformed safetensors", () => {
  it.each(malformed)("%s", (_, bytes, expected) => {
    expect(refusal(bytes)).toContain(expected);
  });

  it("refuses a small file cut at any byte", async () => {
    await writeSafetensors(path, [tensor("w", "F32", [2], new Uint8Array(8)), tensor("b", "U8", [3], new Uint8Array(3))]);
    const bytes = new Uint8Array(readFileSync(path));
    expect(refusal(bytes)).toBeUndefined();
    for (let length = 0; length < bytes.length; length++) {
      const least = length < 8 ? 8 : length < bytes.length - 11 ? bytes.length - 11 : bytes.length;
      expect(refusal(bytes.subarray(0, length)), `cut at ${length}`).toContain(`; the file is cut short: ${length} of at least ${least} bytes; copy or download it again`);
    }
    expect(refusal(Uint8Array.of(...bytes, 0))).toContain("the last 1 bytes");
  });

  it("answers every mutation with a header that holds its promises or a typed error", async () => {
    await writeSafetensors(path, [tensor("w", "F32", [2], new Uint8Array(8)), tensor("b", "U8", [3], new Uint8Array(3))]);
    const bytes = new Uint8Array(readFileSync(path));
    const interesting = fc.oneof(fc.constantFrom(...new TextEncoder().encode('{}[]",:0123456789-.eE\\u _')), fc.integer({ min: 0, max: 255 }));
    const edits = fc.array(fc.record({ at: fc.nat(bytes.length - 1), remove: fc.nat(4), insert: fc.array(interesting, { maxLength: 4 }) }), { minLength: 1, maxLength: 3 });
    let accepted = 0;
    fc.assert(
      fc.property(edits, (list) => {
        const mutated = list.reduce((b, { at, remove, insert }) => [...b.slice(0, at), ...insert, ...b.slice(at + remove)], [...bytes]);
        if (refusal(Uint8Array.from(mutated)) !== undefined) return;
        accepted++;
        const { tensors, fileBytes, dataStart } = readSafetensorsHeader(path);
        const total = [...tensors.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
        expect(total).toBe(fileBytes - dataStart);
      }),
      { numRuns: 1500, seed: 7 },
    );
    expect(accepted).toBeGreaterThan(0);
  });

  it("is not a file, or is not there", () => {
    expect(() => readSafetensorsHeader(dir)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT" }));
    expect(() => readSafetensorsHeader("/dev/zero")).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT" }));
    expect(() => readSafetensorsHeader(join(dir, "none"))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO" }));
  });
});
