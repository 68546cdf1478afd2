import { describe, expect, it } from "vitest";
import { SwitchyardError } from "../errors.js";
import { shardedTensors } from "./checkpoint.js";
import { parseGguf } from "./gguf/reader.js";
import { parseJson } from "./json.js";
import { parseSafetensors } from "./safetensors.js";
import { memorySource } from "./source.js";

const encoder = new TextEncoder();

/** A safetensors file with this header and `dataBytes` zero bytes of data. */
function safetensors(header: string, dataBytes = 0): () => unknown {
  const json = encoder.encode(header);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return () => parseSafetensors(memorySource(bytes, "x"));
}

/** A GGUF file of `tensors` and `keys` whose rest is `count` times what `write` puts into `size` bytes. */
function gguf(tensors: number, keys: number, head: readonly number[], count: number, size: number, write: (view: DataView, i: number) => void = () => undefined): () => unknown {
  const bytes = new Uint8Array(24 + head.length + count * size);
  bytes.set(encoder.encode("GGUF\u0003"));
  bytes.set(head, 24);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(8, BigInt(tensors), true);
  view.setBigUint64(16, BigInt(keys), true);
  for (let i = 0; i < count; i++) write(new DataView(bytes.buffer, 24 + head.length + i * size, size), i);
  return () => parseGguf(memorySource(bytes, "x"));
}

const u32 = (n: number) => [...new Uint8Array(Uint32Array.of(n).buffer)];
const u64 = (n: number) => [...u32(n), 0, 0, 0, 0];
/** The key "k" with an array of `count` values of type `of`. */
const array = (of: number, count: number, size: number, write?: (view: DataView) => void) => gguf(0, 1, [...u64(1), 107, ...u32(9), ...u32(of), ...u64(count)], count, size, write);
/** A name of its own for each i, after its length: 13 bytes. */
function putName(view: DataView, i: number): void {
  view.setUint32(0, 5, true);
  for (let digit = 0; digit < 5; digit++) view.setUint8(8 + digit, 48 + (Math.floor(i / 10 ** digit) % 10));
}
const json = (content: string): (() => unknown) => {
  const bytes = encoder.encode(content);
  return () => parseJson(bytes, "x");
};

/** A megabyte of what `unit` makes, between commas. */
function fill(unit: (i: number) => string): string {
  const units: string[] = [];
  for (let length = 0; length < 1e6; ) length += units.push(unit(units.length)) && (units.at(-1)?.length ?? 0) + 1;
  return units.join(",");
}

const empty = (i: number) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`;
const shard = parseSafetensors(memorySource(new Uint8Array([2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d]), "x"));

/** What takes a reader longest, or most memory, in about a megabyte; true: it is a right file. */
const hostile: [string, () => unknown, boolean?][] = [
  ["safetensors: open brackets", safetensors(`{"a":${"[".repeat(1e6)}`)],
  ["safetensors: open objects", safetensors('{"a":'.repeat(2e5))],
  ["safetensors: empty objects as tensors", safetensors(`{${fill((i) => `"${i}":{}`)}}`)],
  ["safetensors: tiny tensors", safetensors(`{${fill(empty)}}`, 1)],
  ["safetensors: one long shape", safetensors(`{"a":{"dtype":"F32","shape":[${fill(() => "0")}],"data_offsets":[0,0]}}`)],
  ["safetensors: one long name", safetensors(`{"${"n".repeat(1e6)}":1}`)],
  ["safetensors: escapes", safetensors(`{"${"\\u0061".repeat(160_000)}":1}`)],
  ["safetensors: digits", safetensors(`{"a":${"9".repeat(1e6)}}`)],
  ["safetensors: spaces", safetensors(`{${" ".repeat(1e6)}`)],
  ["safetensors: line feeds before the fault", safetensors(`{${"\n".repeat(1e6)}`)],
  ["safetensors: metadata", safetensors(`{"__metadata__":{${fill((i) => `"${i}":""`)}},"a":1}`)],
  ["safetensors: colliding integer keys", safetensors(`{${fill((i) => `"${i * 65536}":{}`)}}`)],
  ["safetensors: one backslash after another", safetensors(`{"${"\\".repeat(1e6)}`)],
  ["GGUF: empty strings", array(8, 125_000, 8), true],
  ["GGUF: empty arrays of strings", array(9, 80_000, 12, (view) => view.setUint32(0, 8, true)), true],
  ["GGUF: empty arrays of bytes", array(9, 80_000, 12), true],
  ["GGUF: one long string", gguf(0, 1, [...u64(1), 107, ...u32(8), ...u64(1e6)], 1e6, 1), true],
  ["GGUF: one long array of bytes", array(0, 1e6, 1), true],
  ["GGUF: booleans", array(7, 1e6, 1, (view) => view.setUint8(0, 1)), true],
  ["GGUF: tiny keys", gguf(0, 50_000, [], 50_000, 18, putName), true],
  ["GGUF: tiny tensors", gguf(25_000, 0, [], 25_000, 37, (view, i) => {
    putName(view, i);
    view.setUint32(13, 1, true);
    view.setUint32(17, 1, true);
    view.setUint32(29, i * 32, true);
  })],
  ["GGUF: tensors without dimensions in the same place", gguf(33_000, 0, [], 33_000, 29, putName)],
  ["JSON: objects in objects", json(`[${fill(() => '{"a":{"a":{"a":{"a":{"a":{}}}}}}')}]`), true],
  ["JSON: empty arrays", json(`[${fill(() => "[]")}]`), true],
  ["JSON: zeros", json(`[${fill(() => "0")}]`), true],
  ["JSON: keys of one object", json(`{${fill((i) => `"k${i}":0`)}}`), true],
  ["JSON: a fault behind many lines", json(`[${"\n".repeat(1e6)}x`)],
  ["index: tensors that are in no shard", () => shardedTensors({ weight_map: Object.fromEntries(Array.from({ length: 25_000 }, (_, i) => [`tensor.${i}`, "a.safetensors"])) }, "x", () => shard)],
  ["index: as many shards as tensors", () => shardedTensors({ weight_map: Object.fromEntries(Array.from({ length: 25_000 }, (_, i) => [`tensor.${i}`, `${i}.safetensors`])) }, "x", () => shard)],
];

function isRight(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    if (!(error instanceof SwitchyardError) || error.code !== "ERR_SWITCHYARD_FORMAT") throw error;
    expect(error.message.length).toBeLessThan(1000);
    return false;
  }
}

/** The high-water mark of the process, in KiB. It cannot sink, so a file pays for what it takes beyond those before it. */
const highWater = (): number => process.resourceUsage().maxRSS;

describe("a hostile megabyte is decided within 250 ms and 64 MB", () => {
  it.each(hostile)("%s", (_, read, right = false) => {
    const before = highWater();
    expect(isRight(read)).toBe(right);
    expect((highWater() - before) / 1024).toBeLessThan(64);
    // Time of the processor, the least of three: other programs on the machine do not count.
    const times = [0, 1, 2].map(() => {
      const start = process.cpuUsage();
      isRight(read);
      const { user, system } = process.cpuUsage(start);
      return (user + system) / 1000;
    });
    expect(Math.min(...times)).toBeLessThan(250);
  });
});
