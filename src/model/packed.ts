import type { CheckpointTensor } from "../formats/checkpoint.js";
import { ggufBytes, type GgufType, ggufTypes } from "../formats/gguf/types.js";
import type { SafetensorsDtype } from "../formats/safetensors.js";
import type { TensorToWrite } from "../formats/safetensors-writer.js";
import { check } from "../errors.js";
import type { Piece } from "./families/names.js";
import { encodedRows, type EncodingOptions, type PublishedTensor } from "./published.js";
import { checkStoredShape } from "./stored.js";
import { type FileType, fileTypes } from "./stored-types.js";

/**
 * Quantised weights in safetensors, our own layout: a tensor NAME in Q4_K is the tensor "NAME.q4_k" of bytes, U8 [rows, bytes of a row] or
 * [E, rows, bytes of a row], its matrices [out, in] whatever the plain form of NAME is, the blocks as in GGUF. config.json declares it
 * (`quantization_config.quant_method`: "switchyard"), so that other programs refuse the folder by name. Each expert that has tensors of its own may have a type of its own.
 */
const suffixes: ReadonlyMap<string, FileType> = new Map(fileTypes.filter((type) => ggufTypes[type].elements > 1).map((type) => [type.toLowerCase(), type]));

/** Published name and type of a tensor of blocks by its name; undefined for any other. */
export function packedName(name: string): { name: string; type: FileType } | undefined {
  const dot = name.lastIndexOf(".");
  const type = suffixes.get(name.slice(dot + 1));
  return type === undefined ? undefined : { name: name.slice(0, dot), type };
}

/** A piece as matrices [out, in], or as a vector. */
export function packedShape({ rows, matrixRows, cols, shape }: Piece): number[] {
  if (cols === 1) return [rows];
  return rows === matrixRows && shape.length <= 2 ? [rows, cols] : [rows / matrixRows, matrixRows, cols];
}

/** A tensor of blocks, as `decodeTensor` reads it. */
export interface PackedTensor extends CheckpointTensor {
  type: FileType;
}

/** The tensors of blocks in a folder by their published names. Throws ERR_SWITCHYARD_FORMAT for a tensor that is there in two types. */
export function packedTensors(tensors: ReadonlyMap<string, CheckpointTensor>): Map<string, PackedTensor> {
  const packed = new Map<string, PackedTensor>();
  for (const [stored, tensor] of tensors) {
    const known = packedName(stored);
    if (known === undefined) continue;
    check(!packed.has(known.name) && !tensors.has(known.name), "ERR_SWITCHYARD_FORMAT", () => `${tensor.file}: tensor "${known.name}": it is there in two types`);
    packed.set(known.name, { ...tensor, type: known.type });
  }
  return packed;
}

/** Throws ERR_SWITCHYARD_FORMAT unless the tensor has the blocks of this piece. */
export function checkPacked(piece: Piece, tensor: PackedTensor): void {
  const { type, file, dtype } = tensor;
  const shape = packedShape(piece);
  const bytes = ggufBytes(type, shape.slice(-1));
  check(
    bytes !== undefined && dtype === "U8",
    "ERR_SWITCHYARD_FORMAT",
    () => `${file}: tensor "${piece.name}": expected bytes (U8) of rows of whole blocks of ${ggufTypes[type].elements} elements, got ${dtype} and rows of ${piece.cols}`,
  );
  checkStoredShape(`${piece.name}.${type.toLowerCase()}`, tensor, [...shape.slice(0, -1), bytes], "config.json says");
}

/** A tensor of a model as it is written in `type`. Plain floats keep their published name and shape. */
export function tensorToWrite(tensor: PublishedTensor, type: GgufType, options: EncodingOptions): TensorToWrite {
  const { name, shape, sources: [{ piece }] } = tensor;
  if (ggufTypes[type].elements === 1) return { name, dtype: type as SafetensorsDtype, shape, chunks: () => encodedRows(tensor, type, options) };
  const rows = packedShape(piece);
  const bytes = ggufBytes(type, rows.slice(-1)) as number;
  return { name: `${name}.${type.toLowerCase()}`, dtype: "U8", shape: [...rows.slice(0, -1), bytes], chunks: () => encodedRows(tensor, type, options, false) };
}
