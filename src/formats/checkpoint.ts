import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { check } from "../errors.js";
import { readChunks } from "./chunks.js";
import { bf16ToF32, f16ToF32 } from "../tensor/half.js";
import { ioError } from "./io.js";
import { conform, type Json, readJsonFile } from "./json.js";
import { readSafetensorsHeader, type SafetensorsDtype, type SafetensorsHeader, type StoredTensor } from "./safetensors.js";
import { bytesToWrite, compareNames, type TensorToWrite, writeSafetensors } from "./safetensors-writer.js";

/** A tensor of a checkpoint folder; [begin, end) counts from the start of `file`. */
export interface CheckpointTensor extends StoredTensor {
  readonly file: string;
}

const single = "model.safetensors";
const indexName = "model.safetensors.index.json";
/** transformers' own default. */
const defaultShardBytes = 5e9;
const index = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * Every tensor of a checkpoint in Hugging Face's layout: `model.safetensors`, or shards and their index. Only headers are
 * read. Throws ERR_SWITCHYARD_CHECKPOINT if there is neither, or a shard is missing, ERR_SWITCHYARD_FORMAT if a file is malformed.
 */
export function openCheckpointTensors(dir: string): Map<string, CheckpointTensor> {
  const file = join(dir, single);
  if (existsSync(file)) return new Map([...readSafetensorsHeader(file).tensors].map(([name, tensor]) => [name, { ...tensor, file }]));
  const indexPath = join(dir, indexName);
  check(existsSync(indexPath), "ERR_SWITCHYARD_CHECKPOINT", () => `${dir}: expected ${single} or ${indexName}, found neither; name the folder of a checkpoint`);
  const headerOf = (shard: string) => (existsSync(join(dir, shard)) ? readSafetensorsHeader(join(dir, shard)) : undefined);
  return shardedTensors(readJsonFile(indexPath, { maxBytes: 2 ** 27 }), indexPath, headerOf);
}

/** Every tensor of the shards that the index at `indexPath` names. `headerOf` gives the header of a shard beside it, or undefined if there is none. Throws ERR_SWITCHYARD_CHECKPOINT for a missing shard, ERR_SWITCHYARD_FORMAT. */
export function shardedTensors(json: Json, indexPath: string, headerOf: (shard: string) => SafetensorsHeader | undefined): Map<string, CheckpointTensor> {
  const { weight_map: weightMap } = conform(index, json, indexPath);
  const shardOf = new Map(Object.entries(weightMap));
  const tensors = new Map<string, CheckpointTensor>();
  for (const shard of new Set(shardOf.values())) {
    check(/^\w[\w.-]{0,242}\.safetensors$/.test(shard), "ERR_SWITCHYARD_FORMAT", () => `${indexPath}: weight_map: expected the name of a .safetensors file beside the index, got ${JSON.stringify(shard.slice(0, 100))}`);
    const file = join(dirname(indexPath), shard);
    const header = headerOf(shard);
    check(header !== undefined, "ERR_SWITCHYARD_CHECKPOINT", () => `${file}: a shard that ${indexName} names is missing; put all of them into one folder`);
    for (const [name, tensor] of header.tensors) {
      check(shardOf.get(name) === shard, "ERR_SWITCHYARD_FORMAT", () => `${file}: tensor ${JSON.stringify(name)}: the index puts it in ${shardOf.get(name) ?? "no shard"}`);
      tensors.set(name, { ...tensor, file });
    }
  }
  const missing = [...shardOf].find(([name]) => !tensors.has(name));
  check(missing === undefined, "ERR_SWITCHYARD_FORMAT", () => `${indexPath}: weight_map: tensor ${JSON.stringify(missing?.[0].slice(0, 100))} is not in ${missing?.[1]}`);
  return tensors;
}

/** Multiple of every element size. */
const chunkBytes = 2 ** 22;

const toF32: Partial<Record<SafetensorsDtype, (bytes: Uint8Array<ArrayBuffer>) => Float32Array>> = {
  F64: ({ buffer }) => Float32Array.from(new Float64Array(buffer)),
  F32: ({ buffer }) => new Float32Array(buffer),
  F16: ({ buffer }) => f16ToF32(new Uint16Array(buffer)),
  BF16: ({ buffer }) => bf16ToF32(new Uint16Array(buffer)),
  I8: ({ buffer }) => Float32Array.from(new Int8Array(buffer)),
  U8: (bytes) => Float32Array.from(bytes),
};

/**
 * The elements of a tensor of F64 (rounded), F32, F16, BF16, I8 or U8 as f32, in order, in pieces of at most 4 Mi elements: the way to load what
 * cannot be used where it is mapped, being of another width or not aligned. Throws ERR_SWITCHYARD_UNSUPPORTED for another type.
 */
export function* readAsF32({ file, dtype, begin, end }: CheckpointTensor): Generator<Float32Array> {
  const convert = toF32[dtype];
  check(convert !== undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `${file}: expected a tensor of ${Object.keys(toF32).join(", ")}, got ${dtype}`);
  for (const bytes of readChunks(file, begin, end, chunkBytes)) yield convert(bytes);
}

/**
 * Writes `model.safetensors`, or shards of at most `maxShardBytes` of tensor data (a larger tensor has one of its own) and
 * their index. Throws ERR_SWITCHYARD_IO, ERR_SWITCHYARD_FORMAT.
 */
export async function writeCheckpointTensors(dir: string, tensors: readonly TensorToWrite[], maxShardBytes = defaultShardBytes): Promise<void> {
  const shards: TensorToWrite[][] = [[]];
  let shardBytes = 0;
  let totalBytes = 0;
  for (const tensor of tensors.toSorted((a, b) => compareNames(a.name, b.name))) {
    const bytes = bytesToWrite(tensor);
    if (shardBytes > 0 && shardBytes + bytes > maxShardBytes) {
      shards.push([]);
      shardBytes = 0;
    }
    shards.at(-1)?.push(tensor);
    shardBytes += bytes;
    totalBytes += bytes;
  }
  const [only] = shards;
  if (shards.length === 1 && only !== undefined) return writeSafetensors(join(dir, single), only);
  const weightMap: [string, string][] = [];
  for (const [i, shard] of shards.entries()) {
    const name = `model-${numbered(i + 1)}-of-${numbered(shards.length)}.safetensors`;
    await writeSafetensors(join(dir, name), shard);
    weightMap.push(...shard.map((tensor): [string, string] => [tensor.name, name]));
  }
  const json = JSON.stringify({ metadata: { total_size: totalBytes }, weight_map: Object.fromEntries(weightMap) }, null, 2);
  const path = join(dir, indexName);
  await writeFile(path, `${json}\n`).catch((error: unknown) => {
    throw ioError("write", path, error);
  });
}

function numbered(n: number): string {
  return String(n).padStart(5, "0");
}
