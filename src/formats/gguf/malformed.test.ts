import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { SwitchyardError } from "../../errors.js";
import { readGgufHeader } from "./reader.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-gguf-malformed-"));
afterAll(() => rmSync(dir, { recursive: true }));
const path = join(dir, "x.gguf");

const u8 = (...n: number[]) => Uint8Array.from(n);
const u32 = (...n: number[]) => new Uint8Array(Uint32Array.from(n).buffer);
const u64 = (...n: (number | bigint)[]) => new Uint8Array(BigUint64Array.from(n.map(BigInt)).buffer);
const text = (s: string) => [u64(Buffer.byteLength(s)), new TextEncoder().encode(s)];
const concat = (parts: readonly Uint8Array[]) => Uint8Array.from(Buffer.concat(parts));

type Bytes = readonly Uint8Array[];
/** Key, type and payload. */
const pair = (key: string, type: number, ...payload: Bytes): Bytes => [...text(key), u32(type), ...payload];
const info = (name: string, dims: readonly (number | bigint)[], type: number, offset: number | bigint): Bytes => [...text(name), u32(dims.length), u64(...dims), u32(type), u64(offset)];

interface Parts {
  magic?: Uint8Array;
  version?: number;
  tensorCount?: number | bigint;
  keyCount?: number | bigint;
  keys?: readonly Bytes[];
  tensors?: readonly Bytes[];
  data?: number;
  alignment?: number;
}

const keys = [pair("general.architecture", 8, ...text("llama")), pair("n", 4, u32(7)), pair("list", 9, u32(4), u64(2), u32(1, 2))];
const tensors = [info("a", [4, 2], 0, 0), info("q", [32, 2], 8, 32)];

/** A file that is right but for what `parts` replaces: 32 bytes of tensor a, 68 of tensor q, padding. */
function file({ magic = new TextEncoder().encode("GGUF"), version = 3, data = 128, alignment = 32, ...rest }: Parts = {}): Uint8Array {
  const all = { keys, tensors, ...rest };
  const head = concat([magic, u32(version), u64(rest.tensorCount ?? all.tensors.length, rest.keyCount ?? all.keys.length), ...all.keys.flat(), ...all.tensors.flat()]);
  return concat([head, new Uint8Array((alignment - (head.length % alignment)) % alignment), new Uint8Array(data)]);
}

/** The error that reading `bytes` as a file gives, or undefined. Anything but a typed error about the format fails the test. */
function refusal(bytes: Uint8Array): string | undefined {
  writeFileSync(path, bytes);
  const start = process.cpuUsage();
  try {
    readGgufHeader(path);
    return undefined;
  } catch (error) {
    if (!(error instanceof SwitchyardError) || error.code !== "ERR_SWITCHYARD_FORMAT") throw error;
    expect(error.message.startsWith(`${path}: `)).toBe(true);
    return error.message.slice(path.length + 2);
  } finally {
    const { user, system } = process.cpuUsage(start);
    expect(user + system, "microseconds").toBeLessThan(250_000);
  }
}

const withKey = (type: number, ...payload: Bytes): Uint8Array => file({ keys: [pair("k", type, ...payload)] });
const withTensors = (...list: Bytes[]): Uint8Array => file({ tensors: list });
const aligned = (n: number) => file({ keys: [pair("general.alignment", 4, u32(n))], alignment: 2 ** 13, data: 2 ** 14 });
const nested = (depth: number): Bytes => (depth === 0 ? [u32(0), u64(1), u8(1)] : [u32(9), u64(1), ...nested(depth - 1)]);
const name = (bytes: Uint8Array): Bytes => [u64(bytes.length), bytes, u32(1), u64(4), u32(0), u64(0)];
const big = 2n ** 63n;

const malformed: [string, Uint8Array, RegExp][] = [
  ["empty file", u8(), /^magic: .* cut short/],
  ["three bytes", u8(71, 71, 85), /^magic: .* cut short/],
  ["another magic", file({ magic: new TextEncoder().encode("GGML") }), /^magic: expected "GGUF", got "GGML"/],
  ["magic in lower case", file({ magic: new TextEncoder().encode("gguf") }), /^magic:/],
  ["safetensors file", concat([u64(2), new TextEncoder().encode("{}      ")]), /^magic:/],
  ["version 0", file({ version: 0 }), /^version: expected 3, got 0/],
  ["version 1", file({ version: 1 }), /^version: expected 3, got 1/],
  ["version 4", file({ version: 4 }), /^version: expected 3, got 4/],
  ["big-endian", file({ version: 0x03000000 }), /^version: .* big-endian/],
  ["only magic", new TextEncoder().encode("GGUF"), /^version: .* cut short/],
  ["no counts", file().slice(0, 8), /^tensor count: .* cut short/],
  ["no metadata count", file().slice(0, 16), /^metadata count: .* cut short/],
  ["2^64 - 1 tensors", file({ tensorCount: 2n ** 64n - 1n }), /^tensor count: expected at most 2\^53 - 1/],
  ["2^53 - 1 tensors", file({ tensorCount: 2n ** 53n - 1n }), /^tensor count: expected at most 1000000 tensors/],
  ["more tensors than bytes", file({ tensorCount: 100 }), /^tensor count: .* bytes left can hold, got 100/],
  ["one tensor too many", file({ tensorCount: 3 }), /^tensor 2: name: "" is not allowed/],
  ["one tensor too few", file({ tensorCount: 1 }), /^data: the last \d+ bytes of the file belong to no tensor/],
  ["2^64 - 1 keys", file({ keyCount: 2n ** 64n - 1n }), /^metadata count:/],
  ["100,001 keys", file({ keyCount: 100_001, data: 2_000_000 }), /^metadata count: expected at most 100000 keys/],
  ["more keys than bytes", file({ keyCount: 50 }), /^metadata count: .* got 50/],
  ["one key too many", file({ keyCount: 4 }), /^tensor 0: name: expected a string of at most 350 bytes/],
  ["one key too few", file({ keyCount: 2 }), /^tensor "list": dimensions: expected at most 4 dimensions, got 9/],
  ["empty key", file({ keys: [pair("", 4, u32(1))] }), /^metadata 0: key: "" is not allowed/],
  ["key of 351 bytes", file({ keys: [pair("k".repeat(351), 4, u32(1))] }), /^metadata 0: key: expected a string of at most 350 bytes, got a length of 351/],
  ["key of 2^63 bytes", file({ keys: [[u64(big), u32(4, 1)]] }), /^metadata 0: key: expected at most 2\^53/],
  ["key of 2^32 bytes", file({ keys: [[u64(2 ** 32), u32(4, 1)]] }), /^metadata 0: key: expected a string/],
  ["key that is not UTF-8", file({ keys: [[u64(2), u8(0xc3, 0x28), u32(4, 1)]] }), /^metadata 0: key: the string is not valid UTF-8/],
  ["key with NUL", file({ keys: [pair("a\0b", 4, u32(1))] }), /^metadata 0: key: "a\\u0000b" is not allowed/],
  ["key __proto__", file({ keys: [pair("__proto__", 4, u32(1))] }), /^metadata 0: key: "__proto__" is not allowed/],
  ["duplicate key", file({ keys: [...keys, keys[1]!] }), /^metadata 3: key: duplicate "n"/],
  ["value type 13", withKey(13, u32(1)), /^metadata "k": expected a value type from 0 to 12, got 13/],
  ["value type 2^32 - 1", withKey(2 ** 32 - 1, u32(1)), /^metadata "k": expected a value type/],
  ["boolean 2", withKey(7, u8(2)), /^metadata "k": expected booleans to be 0 or 1/],
  ["string of 17 MiB", withKey(8, u64(17 * 2 ** 20)), /^metadata "k": expected a string of at most 16777216 bytes/],
  ["string beyond the end", withKey(8, u64(5000), u8(65)), /^metadata "k": expected 5000 bytes at .* cut short/],
  ["string of 2^64 - 1 bytes", withKey(8, u64(2n ** 64n - 1n)), /^metadata "k": expected at most 2\^53/],
  ["string that is not UTF-8", withKey(8, u64(1), u8(0xff)), /^metadata "k": the string is not valid UTF-8/],
  ["string with a surrogate", withKey(8, u64(3), u8(0xed, 0xa0, 0x80)), /^metadata "k": the string is not valid UTF-8/],
  ["array of 2^64 - 1 bytes", withKey(9, u32(0), u64(2n ** 64n - 1n)), /^metadata "k": expected at most 2\^53/],
  ["array of 2^53 - 1 doubles", withKey(9, u32(12), u64(2n ** 53n - 1n)), /^metadata "k": expected at most 67108864 elements/],
  ["array of 2^61 doubles, whose bytes are 2^64", withKey(9, u32(12), u64(2n ** 61n)), /^metadata "k": expected at most 2\^53/],
  ["array of 65 Mi bytes", withKey(9, u32(0), u64(65 * 2 ** 20)), /^metadata "k": expected at most 67108864 elements of u8 .*, got \d+$/],
  ["array longer than the file", withKey(9, u32(4), u64(1000)), /^metadata "k": expected at most 67108864 elements of u32 .*, got 1000; the file is cut short/],
  ["array of more strings than bytes", withKey(9, u32(8), u64(60)), /^metadata "k": expected at most 67108864 elements of string .*, got 60;/],
  ["array of more arrays than bytes", withKey(9, u32(9), u64(60)), /^metadata "k": expected at most 67108864 elements of array .*, got 60;/],
  ["array of an unknown type", withKey(9, u32(77), u64(0)), /^metadata "k": expected a value type from 0 to 12, got 77/],
  ["array with a bad string", withKey(9, u32(8), u64(2), ...text("x"), u64(1), u8(0x80)), /^metadata "k": the string is not valid UTF-8/],
  ["array with a bad boolean", withKey(9, u32(7), u64(3), u8(1, 0, 9)), /^metadata "k": expected booleans/],
  ["arrays nested five deep", withKey(9, ...nested(4)), /^metadata "k": arrays are nested deeper than 4/],
  ["arrays nested a thousand deep", withKey(9, ...nested(1000)), /^metadata "k": arrays are nested deeper than 4/],
  ["alignment 0", aligned(0), /^metadata "general.alignment": expected a power of two up to 4096, got 0/],
  ["alignment 24", aligned(24), /^metadata "general.alignment": expected a power of two up to 4096, got 24/],
  ["alignment 8192", aligned(8192), /^metadata "general.alignment": expected a power of two up to 4096, got 8192/],
  ["alignment 2^31", aligned(2 ** 31), /^metadata "general.alignment": expected a power of two/],
  ["alignment of type u64", file({ keys: [pair("general.alignment", 10, u64(32))] }), /^metadata "general.alignment": expected u32, got u64/],
  ["alignment as a string", file({ keys: [pair("general.alignment", 8, ...text("32"))] }), /^metadata "general.alignment": expected u32, got string/],
  ["empty tensor name", withTensors(info("", [4], 0, 0)), /^tensor 0: name: "" is not allowed/],
  ["tensor name of 351 bytes", withTensors(info("t".repeat(351), [4], 0, 0)), /^tensor 0: name: expected a string of at most 350/],
  ["tensor name that is not UTF-8", withTensors(name(u8(0xff, 0xfe))), /^tensor 0: name: the string is not valid UTF-8/],
  ["tensor name with a line break", withTensors(info("a\nb", [4], 0, 0)), /^tensor 0: name: "a\\nb" is not allowed/],
  ["tensor name __proto__", withTensors(info("__proto__", [4], 0, 0)), /^tensor 0: name: "__proto__" is not allowed/],
  ["duplicate tensor name", withTensors(info("a", [4], 0, 0), info("a", [4], 0, 32)), /^tensor 1: name: duplicate "a"/],
  ["five dimensions", withTensors(info("a", [1, 1, 1, 1, 1], 0, 0)), /^tensor "a": dimensions: expected at most 4 dimensions, got 5/],
  ["2^32 - 1 dimensions", withTensors([...text("a"), u32(2 ** 32 - 1), u64(1), u32(0), u64(0)]), /^tensor "a": dimensions: expected at most 4/],
  ["dimension 0", withTensors(info("a", [4, 0], 0, 0)), /^tensor "a": dimensions: expected positive dimensions, got \[4, 0\]/],
  ["dimension 2^64 - 1", withTensors(info("a", [2n ** 64n - 1n], 0, 0)), /^tensor "a": dimensions: expected at most 2\^53/],
  ["dimension 2^63, negative when signed", withTensors(info("a", [big], 0, 0)), /^tensor "a": dimensions: expected at most 2\^53/],
  ["product that wraps to 0 in 64 bits", withTensors(info("a", [2n ** 32n, 2n ** 32n], 0, 0)), /^tensor "a": dimensions: .* larger than the file/],
  ["product that wraps to 4 in 64 bits", withTensors(info("a", [2n ** 50n, 2n ** 50n, 2n ** 50n, 2n ** 50n], 0, 0)), /^tensor "a": dimensions: .* larger than the file/],
  ["unknown tensor type", withTensors(info("a", [4], 99, 0)), /^tensor "a": type: expected one of 0 \(F32\), .*, got 99/],
  ["removed type Q4_2", withTensors(info("a", [32], 4, 0)), /^tensor "a": type: .*, got 4$/],
  ["row of half a block", withTensors(info("a", [16, 2], 2, 0)), /^tensor "a": dimensions: expected rows of a multiple of 32 elements for Q4_0, got 16/],
  ["row of a block and a half", withTensors(info("a", [384], 12, 0)), /^tensor "a": dimensions: expected rows of a multiple of 256 elements for Q4_K, got 384/],
  ["offset that is not aligned", withTensors(info("a", [4], 0, 8)), /^tensor "a": offset: expected a multiple of 32, the alignment, got 8/],
  ["offset 2^64 - 32", withTensors(info("a", [4], 0, 2n ** 64n - 32n)), /^tensor "a": offset: expected at most 2\^53/],
  ["offset 2^53 - 32", withTensors(info("a", [4], 0, 2n ** 53n - 32n)), /^tensor "a": offset: expected its bytes to end within the file/],
  ["offset beyond the end", withTensors(info("a", [4], 0, 4096)), /^tensor "a": offset: expected its bytes to end within the file/],
  ["tensor that ends beyond the end", withTensors(info("a", [32], 0, 32)), /^tensor "a": offset: expected its bytes to end within the file/],
  ["tensor larger than the file", withTensors(info("a", [1000], 0, 0)), /^tensor "a": dimensions: \[1000\] of F32 is larger than the file/],
  ["the same place twice", withTensors(info("a", [4], 0, 0), info("b", [4], 0, 0)), /^tensor "b": offset: overlaps tensor "a"/],
  ["overlap by one element", withTensors(info("a", [9], 0, 0), info("b", [4], 0, 32)), /^tensor "b": offset: overlaps tensor "a"/],
  ["overlap in another order", withTensors(info("b", [4], 0, 32), info("a", [32], 0, 0)), /^tensor "b": offset: overlaps tensor "a"/],
  ["data behind the last tensor", file({ data: 129 }), /^data: the last 1 bytes of the file belong to no tensor/],
  ["a kilobyte behind the last tensor", file({ data: 128 + 1024 }), /^data: the last 1024 bytes/],
  ["no data at all", file({ data: 0 }), /^tensor "[aq]": offset: expected its bytes to end within the file/],
];

describe("malformed GGUF", () => {
  it("the file that they were made from is right; so are version 2, no padding at the end, no dimensions, and arrays nested four deep", () => {
    expect(refusal(file())).toBeUndefined();
    expect(refusal(file({ version: 2 }))).toBeUndefined();
    expect(refusal(file({ data: 32 + 68 }))).toBeUndefined();
    expect(refusal(file({ tensors: [info("s", [], 0, 0), info("a", [16], 0, 32)], data: 96 }))).toBeUndefined();
    expect(refusal(withKey(9, ...nested(3)))).toBeUndefined();
  });

  it("there are at least 60 of them", () => expect(malformed.length).toBeGreaterThanOrEqual(60));

  it.each(malformed)("%s", (_, bytes, message) => expect(refusal(bytes)).toMatch(message));

  it("truncated at every byte", () => {
    const whole = file();
    for (let length = 0; length < file({ data: 32 + 68 }).length; length++) {
      const message = refusal(whole.slice(0, length));
      expect(message, `${length} bytes`).toMatch(/^(magic|version|(tensor|metadata) count|metadata \d+: key|metadata "[\w.]+"|tensor \d+: name|tensor "\w+": (dimensions|type|offset)): /);
      const [, bytes, least] = /; the file is cut short: (\d+) of at least (\d+) bytes; copy or download it again$/.exec(message ?? "") ?? [];
      expect(Number(bytes)).toBe(length);
      expect(Number(least)).toBeGreaterThan(length);
      expect(Number(least)).toBeLessThanOrEqual(whole.length);
    }
  });

  it("among its tensors, it says where the last one would end", () => {
    const whole = file({ data: 32 + 68 });
    expect(refusal(whole.slice(0, -90))).toBe(`tensor "a": offset: expected its bytes to end within the file of ${whole.length - 90}, they would at ${whole.length - 68}; the file is cut short: ${whole.length - 90} of at least ${whole.length} bytes; copy or download it again`);
    expect(refusal(withTensors(info("a", [2 ** 50, 2 ** 50], 0, 0)))).toMatch(/larger than the file; the file is damaged; copy or download it again$/);
  });

  it("mutated at random: accepted, or refused by name", () => {
    const whole = file();
    const change = fc.tuple(fc.nat(whole.length - 1), fc.constantFrom(0, 1, 2, 7, 8, 9, 12, 31, 32, 127, 128, 255));
    let refused = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.boolean(), (changes, cut) => {
        const bytes = whole.slice(0, cut ? (changes[0]?.[0] ?? 0) : whole.length);
        for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte;
        const message = refusal(bytes);
        if (message !== undefined) expect(message).toMatch(/^(magic|version|data|tensor|metadata)\b/);
        refused += message === undefined ? 0 : 1;
      }),
      { numRuns: 500 },
    );
    expect(refused).toBeGreaterThan(100);
  });
});
