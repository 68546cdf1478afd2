import { existsSync, realpathSync } from "node:fs";
import { SwitchyardError } from "../../errors.js";
import type { GgufMetadata } from "./metadata.js";
import { type GgufHeader, type GgufTensor, readGgufHeader } from "./reader.js";

export interface Gguf {
  /** That of the first file. */
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  readonly files: readonly string[];
  readonly fileBytes: number;
}

const partName = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/s;

/**
 * The headers of a GGUF model: of one file, or of all files of a split one, of which the first is named ("name-00001-of-00003.gguf").
 * Throws ERR_SWITCHYARD_FORMAT naming file and key, ERR_SWITCHYARD_CHECKPOINT for a missing part, ERR_SWITCHYARD_IO.
 */
export function openGguf(path: string): Gguf {
  const first = readGgufHeader(path);
  const count = first.metadata.integer("split.count", 0);
  if (count <= 1) return { ...first, files: [path] };
  const fail = (file: string, message: string): never => {
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${file}: ${message}`, { details: { file } });
  };
  // A symbolic link may have another name than the first part, and is not beside the others.
  const [, stem, number, total] = partName.exec(path) ?? partName.exec(realpathSync(path)) ?? [];
  if (Number(number) !== 1 || Number(total) !== count) fail(path, `metadata "split.count": the model is in ${count} files; name the first, whose name ends with "-00001-of-${String(count).padStart(5, "0")}.gguf"`);
  const tensors = new Map<string, GgufTensor>();
  const files: string[] = [];
  let fileBytes = 0;
  for (let i = 0; i < count; i++) {
    const file = `${stem}-${String(i + 1).padStart(5, "0")}-of-${total}.gguf`;
    if (!existsSync(file)) throw new SwitchyardError("ERR_SWITCHYARD_CHECKPOINT", `${file}: a part of ${path} is missing; put all ${count} into one folder`);
    const part: GgufHeader = i === 0 ? first : readGgufHeader(file);
    if (part.metadata.integer("split.no") !== i) fail(file, `metadata "split.no": expected ${i}, got ${part.metadata.integer("split.no")}`);
    if (part.metadata.integer("split.count") !== count) fail(file, `metadata "split.count": expected ${count}, got ${part.metadata.integer("split.count")}`);
    for (const [name, tensor] of part.tensors) {
      if (tensors.has(name)) fail(file, `tensor ${JSON.stringify(name)}: it is in ${tensors.get(name)?.file} too`);
      tensors.set(name, tensor);
    }
    files.push(file);
    fileBytes += part.fileBytes;
  }
  const expected = first.metadata.integer("split.tensors.count");
  if (tensors.size !== expected) fail(path, `metadata "split.tensors.count": expected ${expected} tensors in all files, got ${tensors.size}`);
  return { metadata: first.metadata, tensors, files, fileBytes };
}
