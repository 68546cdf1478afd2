import { check } from "../../errors.js";
import { writeFileAtomically } from "../atomic-file.js";
import { PieceWriter } from "../piece-writer.js";
import type { GgufValue } from "./metadata.js";
import { ggufBytes, type GgufType, ggufTypes } from "./types.js";
import { encodeString, encodeU32, encodeU64, encodeValue } from "./values.js";

export interface GgufTensorToWrite {
  name: string;
  type: GgufType;
  /** Last dimension fastest. */
  shape: readonly number[];
  /** The bytes in order, in pieces of any size; asked for once, when this tensor's turn comes. */
  chunks: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

const alignment = 32;
const padding = (bytes: number): number => (alignment - (bytes % alignment)) % alignment;

/**
 * Writes a GGUF file of version 3, tensor by tensor, in one step. Throws ERR_SWITCHYARD_IO, and ERR_SWITCHYARD_FORMAT for tensors that do not fit their type.
 */
export async function writeGguf(path: string, metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensorToWrite[]): Promise<void> {
  const { header } = encodeGgufHeader(metadata, tensors);
  await writeFileAtomically(path, async (handle) => {
    const file = new PieceWriter(handle);
    await file.write(header);
    for (const tensor of tensors) {
      const bytes = bytesToWrite(tensor);
      await file.writeAll(tensor.chunks(), bytes, () => `write GGUF: tensor "${tensor.name}"`);
      await file.write(new Uint8Array(padding(bytes)));
    }
    await file.flush();
  });
}

/** What stands before the data of the tensors, and the bytes of the whole file. Throws ERR_SWITCHYARD_FORMAT. */
export function encodeGgufHeader(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensorToWrite[]): { header: Uint8Array; fileBytes: number } {
  const entries = [...metadata].flatMap(([key, value]) => [...encodeString(key), ...encodeValue(value)]);
  const parts = [new TextEncoder().encode("GGUF"), encodeU32(3), encodeU64(tensors.length), encodeU64(metadata.size), entries].flat();
  const names = new Set<string>();
  let offset = 0;
  for (const tensor of tensors) {
    const { name, type, shape } = tensor;
    check(!names.has(name), "ERR_SWITCHYARD_FORMAT", () => `write GGUF: tensor "${name}" is given twice`);
    names.add(name);
    parts.push(...encodeString(name), encodeU32(shape.length), ...shape.toReversed().map(encodeU64), encodeU32(ggufTypes[type].id), encodeU64(offset));
    const bytes = bytesToWrite(tensor);
    offset += bytes + padding(bytes);
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const header = new Uint8Array(length + padding(length));
  let at = 0;
  for (const part of parts) {
    header.set(part, at);
    at += part.length;
  }
  return { header, fileBytes: header.length + offset };
}

function bytesToWrite({ name, type, shape }: GgufTensorToWrite): number {
  const bytes = ggufBytes(type, shape);
  check(bytes !== undefined, "ERR_SWITCHYARD_FORMAT", () => `write GGUF: tensor "${name}": rows of ${shape.at(-1)} elements are not whole blocks of ${ggufTypes[type].elements}, as ${type} needs`);
  return bytes;
}
