import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { openCheckpointTensors, readAsF32, writeCheckpointTensors } from "./checkpoint.js";
import { f32ToBf16 } from "../tensor/half.js";
import { readSafetensorsHeader } from "./safetensors.js";
import { type TensorToWrite, writeSafetensors } from "./safetensors-writer.js";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "switchyard-checkpoint-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
});

const values = (n: number, of: number) => Float32Array.from({ length: n }, (_, i) => of + i / 8);
const bytesOf = (x: Float32Array | Uint16Array) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
const f32 = (name: string, x: Float32Array): TensorToWrite => ({ name, dtype: "F32", shape: [x.length], chunks: () => [bytesOf(x)] });
const tensors = ["d", "a", "c", "b"].map((name, i) => f32(name, values(10, i)));
const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const indexPath = () => join(dir, "model.safetensors.index.json");
const writeIndex = (map: unknown) => writeFileSync(indexPath(), JSON.stringify({ weight_map: map }));
const join32 = (pieces: Iterable<Float32Array>) => [...pieces].flatMap((piece) => [...piece]);

describe("checkpoint tensors", () => {
  it("one file below the limit, shards and an index above it; both give the same tensors", async () => {
    await writeCheckpointTensors(dir, tensors);
    expect(readdirSync(dir)).toEqual(["model.safetensors"]);
    const whole = openCheckpointTensors(dir);
    expect([...whole.keys()]).toEqual(["a", "b", "c", "d"]);
    rmSync(join(dir, "model.safetensors"));

    await writeCheckpointTensors(dir, tensors, 80);
    expect(readdirSync(dir).toSorted()).toEqual([...shards, "model.safetensors.index.json"]);
    expect(JSON.parse(readFileSync(indexPath(), "utf8"))).toEqual({
      metadata: { total_size: 160 },
      weight_map: { a: shards[0], b: shards[0], c: shards[1], d: shards[1] },
    });
    const sharded = openCheckpointTensors(dir);
    expect([...sharded.keys()]).toEqual([...whole.keys()]);
    for (const [i, name] of ["d", "a", "c", "b"].entries()) {
      const tensor = sharded.get(name);
      expect(tensor?.shape).toEqual([10]);
      expect(join32(readAsF32(tensor!))).toEqual([...values(10, i)]);
    }
  });

  it("gives a tensor above the limit a shard of its own", async () => {
    await writeCheckpointTensors(dir, [f32("a", values(1, 0)), f32("b", values(100, 0)), f32("c", values(1, 0))], 50);
    expect([...openCheckpointTensors(dir).values()].map((t) => t.file.at(-22))).toEqual(["1", "2", "3"].map((n) => `model-0000${n}-of-00003.safetensors`.at(-22)));
    expect(readdirSync(dir)).toHaveLength(4);
  });

  it("reads narrow and unaligned tensors as f32, in pieces", async () => {
    const x = values(3_000_000, -5);
    const path = join(dir, "model.safetensors");
    await writeSafetensors(path, [
      { name: "a", dtype: "U8", shape: [1], chunks: () => [Uint8Array.of(200)] },
      { name: "b", dtype: "BF16", shape: [x.length], chunks: () => [bytesOf(f32ToBf16(x))] },
      { name: "c", dtype: "F16", shape: [2], chunks: () => [bytesOf(Uint16Array.of(0x3c00, 0xc000))] },
      f32("d", values(3, 7)),
      { name: "e", dtype: "I8", shape: [2], chunks: () => [Uint8Array.of(128, 127)] },
      { name: "f", dtype: "F64", shape: [1], chunks: () => [new Uint8Array(Float64Array.of(0.1).buffer)] },
      { name: "g", dtype: "I32", shape: [1], chunks: () => [new Uint8Array(4)] },
    ]);
    expect((readSafetensorsHeader(path).tensors.get("d")?.begin ?? 0) % 4).toBe(1);
    const found = openCheckpointTensors(dir);
    const pieces = [...readAsF32(found.get("b")!)];
    expect(pieces.map((p) => p.length)).toEqual([2 ** 21, 3_000_000 - 2 ** 21]);
    const at = (i: number) => pieces[i >= 2 ** 21 ? 1 : 0]![i % 2 ** 21]!;
    for (const i of [0, 1, 2 ** 21 - 1, 2 ** 21, 2_999_999]) expect(Math.abs(at(i) / x[i]! - 1)).toBeLessThanOrEqual(2 ** -8);
    expect(join32(readAsF32(found.get("c")!))).toEqual([1, -2]);
    expect(join32(readAsF32(found.get("d")!))).toEqual([7, 7.125, 7.25]);
    expect(join32(readAsF32(found.get("a")!))).toEqual([200]);
    expect(join32(readAsF32(found.get("e")!))).toEqual([-128, 127]);
    expect(join32(readAsF32(found.get("f")!))).toEqual([Math.fround(0.1)]);
    expect(() => [...readAsF32(found.get("g")!)]).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED" }));
  });

  it.each<[string, (map: Record<string, string>) => unknown, string]>([
    ["a shard above the folder", (m) => ({ ...m, a: "../x.safetensors" }), 'got "../x.safetensors"'],
    ["an absolute shard", (m) => ({ ...m, a: "/etc/passwd" }), "weight_map"],
    ["a shard that is no name", () => ({ a: 3 }), "weight_map.a"],
    ["no map", () => undefined, "weight_map"],
    ["a tensor in another shard", (m) => ({ ...m, a: shards[1] }), 'tensor "a": the index puts it in model-00002'],
    ["a tensor that the index leaves out", (m) => ({ a: m["a"], c: m["c"], d: m["d"] }), 'tensor "b": the index puts it in no shard'],
    ["a tensor that no shard has", (m) => ({ ...m, e: shards[0] }), 'tensor "e" is not in'],
  ])("refuses an index with %s", async (_, change, message) => {
    await writeCheckpointTensors(dir, tensors, 80);
    writeIndex(change({ a: shards[0]!, b: shards[0]!, c: shards[1]!, d: shards[1]! }));
    expect(() => openCheckpointTensors(dir)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_FORMAT", message: expect.stringContaining(message) }));
  });

  it("names a shard that is missing", async () => {
    await writeCheckpointTensors(dir, tensors, 80);
    rmSync(join(dir, shards[1]!));
    const message = `${join(dir, shards[1]!)}: a shard that model.safetensors.index.json names is missing; put all of them into one folder`;
    expect(() => openCheckpointTensors(dir)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_CHECKPOINT", message }));
  });

  it("says that there is no checkpoint", () => {
    expect(() => openCheckpointTensors(join(dir, "none"))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_CHECKPOINT" }));
  });
});

const shared = new URL("../../../shared/goldens/", import.meta.url).pathname;
it.skipIf(!existsSync(shared))("reads every published-layout checkpoint of ../shared/goldens (skipped where it is absent)", () => {
  const dirs = readdirSync(shared).filter((name) => existsSync(join(shared, name, "model.safetensors")));
  expect(dirs.length).toBeGreaterThan(0);
  for (const name of dirs) {
    for (const tensor of openCheckpointTensors(join(shared, name)).values()) expect(tensor.end).toBeGreaterThanOrEqual(tensor.begin);
  }
});
