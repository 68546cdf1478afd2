import { type FileHandle, open, rm, stat } from "node:fs/promises";
import { check } from "../errors.js";
import { ioError } from "./io.js";
import { PieceWriter } from "./piece-writer.js";
import { type SafetensorsDtype, storedBytes } from "./safetensors.js";

export interface TensorToWrite {
  name: string;
  dtype: SafetensorsDtype;
  shape: readonly number[];
  /** The bytes in order, in pieces of any size; asked for once, when this tensor's turn comes. */
  chunks: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** transformers refuses a file that does not name its framework. */
const defaultMetadata = { format: "pt" };

/** Bytes of a tensor to write. Throws ERR_SWITCHYARD_FORMAT. */
export function bytesToWrite({ name, dtype, shape }: TensorToWrite): number {
  const bytes = storedBytes(dtype, shape);
  check(bytes !== undefined, "ERR_SWITCHYARD_FORMAT", () => `write safetensors: tensor "${name}": ${dtype} [${shape.join(", ")}] is not a whole number of bytes`);
  return bytes;
}

/**
 * Writes a safetensors file, tensor by tensor, and waits until it is on the disk. The same tensors give the same bytes: they
 * stand in the order of their names. On an error nothing is left behind. Throws ERR_SWITCHYARD_IO, ERR_SWITCHYARD_FORMAT.
 */
export async function writeSafetensors(path: string, tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>> = defaultMetadata): Promise<void> {
  const sorted = tensors.toSorted((a, b) => compareNames(a.name, b.name));
  const header = encodeHeader(sorted, metadata);
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, "w");
    const file = new PieceWriter(handle);
    await file.write(header);
    for (const tensor of sorted) await file.writeAll(tensor.chunks(), bytesToWrite(tensor), () => `write safetensors: tensor "${tensor.name}"`);
    await file.flush();
    await handle.sync();
    await handle.close();
  } catch (error) {
    // Something that is no file (a device, a pipe) is not ours to remove.
    const isFile = handle !== undefined && (await stat(path).then((found) => found.isFile(), () => false));
    await handle?.close().catch(() => undefined);
    if (isFile) await rm(path, { force: true });
    throw ioError("write", path, error);
  }
}

/** By UTF-16 code units: the same order on every machine, whatever its locale. */
export function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Length prefix and JSON, padded with spaces so that the data starts at a multiple of 8. */
function encodeHeader(tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const fields = new Map<string, unknown>([["__metadata__", metadata]]);
  let at = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    check(!fields.has(name), "ERR_SWITCHYARD_FORMAT", () => `write safetensors: tensor "${name}" is given twice`);
    const end = at + bytesToWrite(tensor);
    fields.set(name, { dtype, shape, data_offsets: [at, end] });
    at = end;
  }
  const members = [...fields].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const header = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(json, 8);
  return header;
}
