import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { check } from "../errors.js";
import { bf16ToF32, f16ToF32 } from "./convert.js";
import { ioError, withIoErrors } from "./io.js";
import { conform, readJsonFile } from "./json.js";
import { readSafetensorsHeader, type StoredTensor } from "./safetensors.js";
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
 * read. Throws ERR_SWITCHYARD_CHECKPOINT if there is neither, ERR_SWITCHYARD_FORMAT if a file is malformed.
 */
export function openCheckpointTensors(dir: string): Map<string, CheckpointTensor> {
  if (existsSync(join(dir, single))) return new Map(tensorsOf(join(dir, single)));
  const indexPath = join(dir, indexName);
  check(existsSync(indexPath), "ERR_SWITCHYARD_CHECKPOINT", () => `${dir}: expected ${single} or ${indexName}, found neither; name the folder of a checkpoint`);
  const { weight_map: weightMap } = conform(index, readJsonFile(indexPath, { maxBytes: 2 ** 27 }), indexPath);
  const shardOf = new Map(Object.entries(weightMap));
  const tensors = new Map<string, CheckpointTensor>();
  for (const shard of new Set(shardOf.values())) {
    check(
      /^[\w][\w.-]*\.safetensors$/.test(shard) && existsSync(join(dir, shard)),
      "ERR_SWITCHYARD_FORMAT",
      () => `${indexPath}: weight_map: expected the name of a .safetensors file beside the index, got ${JSON.stringify(shard)}`,
    );
    for (const [name, tensor] of tensorsOf(join(dir, shard))) {
      check(
        shardOf.get(name) === shard,
        "ERR_SWITCHYARD_FORMAT",
        () => `${join(dir, shard)}: tensor ${JSON.stringify(name)}: the index puts it in ${shardOf.get(name) ?? "no shard"}`,
      );
      tensors.set(name, tensor);
    }
  }
  const missing = [...shardOf].find(([name]) => !tensors.has(name));
  check(missing === undefined, "ERR_SWITCHYARD_FORMAT", () => `${indexPath}: weight_map: tensor ${JSON.stringify(missing?.[0])} is not in ${missing?.[1]}`);
  return tensors;
}

function* tensorsOf(file: string): Generator<[string, CheckpointTensor]> {
  for (const [name, tensor] of readSafetensorsHeader(file).tensors) yield [name, { ...tensor, file }];
}

/** Multiple of every element size. */
const chunkBytes = 2 ** 22;

/**
 * The elements of an F32, F16 or BF16 tensor as f32, in order, in pieces of at most 2 Mi elements: the way to load what cannot be
 * used where it is mapped, being narrower or not aligned. Throws ERR_SWITCHYARD_UNSUPPORTED for another type.
 */
export function* readAsF32({ file, dtype, begin, end }: CheckpointTensor): Generator<Float32Array> {
  check(dtype === "F32" || dtype === "F16" || dtype === "BF16", "ERR_SWITCHYARD_UNSUPPORTED", () => `${file}: expected a tensor of F32, F16 or BF16, got ${dtype}`);
  const fd = withIoErrors("read", file, () => openSync(file, "r"));
  try {
    for (let at = begin; at < end; at += chunkBytes) {
      const bytes = new Uint8Array(Math.min(chunkBytes, end - at));
      for (let done = 0; done < bytes.length; ) {
        const n = withIoErrors("read", file, () => readSync(fd, bytes, done, bytes.length - done, at + done));
        check(n > 0, "ERR_SWITCHYARD_FORMAT", () => `${file}: truncated while it was read`);
        done += n;
      }
      if (dtype === "F32") yield new Float32Array(bytes.buffer);
      else yield (dtype === "F16" ? f16ToF32 : bf16ToF32)(new Uint16Array(bytes.buffer));
    }
  } finally {
    closeSync(fd);
  }
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
