import type { Engine } from "../engine/engine.js";
import { check } from "../errors.js";
import { type CheckpointTensor, readAsF32 } from "../formats/checkpoint.js";
import { readChunks } from "../formats/chunks.js";
import { type GgufType, ggufTypes } from "../formats/gguf/types.js";
import type { TensorToWrite } from "../formats/safetensors-writer.js";
import { decodeBlocks } from "../quant/codecs.js";
import { type Tensor, view } from "../tensor/tensor.js";
import { ourColumn, type Piece } from "./families/names.js";
import { storedDtype, type StoredRows } from "./mapped.js";

/** Elements read or written at a time. */
export const chunkElements = 2 ** 20;

/** Copies a stored tensor of plain floats into `target`, which has its shape. */
export function readTensor(engine: Engine, target: Tensor, stored: CheckpointTensor): void {
  let first = 0;
  for (const values of readAsF32(stored)) {
    engine.write(view(target, [values.length], first), values);
    first += values.length;
  }
}

/** Copies the elements of a published tensor, in its order, to their places in `parameter`. `transposed` as in the file. */
export function readPiece(engine: Engine, parameter: Tensor, piece: Piece, elements: Iterable<Float32Array>, transposed = piece.transposed): void {
  let first = 0;
  for (const stored of transposed ? transposedMatrices(elements, piece) : elements) {
    const values = piece.elements === undefined ? stored : stored.map(piece.elements.toOurs);
    for (let done = 0; done < values.length; ) {
      const { offset, length } = run(piece, first + done, values.length - done);
      if (offset >= 0) engine.write(view(parameter, [length], offset), values.subarray(done, done + length));
      done += length;
    }
    first += values.length;
  }
}

/** A piece of a matrix as products read it in its file; undefined for one that is stored [in, out] or with other elements than ours, or in a type that only `readPiece` understands. */
export function storedRows({ rows, cols, transposed, columns, elements, at }: Piece, stored: { dtype: string; file: string; begin: number } | undefined): StoredRows | undefined {
  const dtype = stored === undefined || transposed || elements !== undefined || cols === 1 ? undefined : storedDtype(stored.dtype);
  return stored === undefined || dtype === undefined ? undefined : { file: stored.file, dtype, begin: stored.begin, rows, at: (r) => Math.floor(at(r) / cols), columns };
}

/** The longest run of at most `most` elements, from element `first` of the piece's rows on, that is one in the parameter too. */
export function run({ cols, columns, at }: Piece, first: number, most: number): { offset: number; length: number } {
  const row = Math.floor(first / cols);
  const within = first % cols;
  const start = at(row);
  if (columns !== undefined) {
    const { size } = columns;
    return { offset: start < 0 ? -1 : start + ourColumn(columns, within), length: Math.min(size - (within % size), most) };
  }
  let length = cols - within;
  for (let r = row + 1; length < most && at(r) === (start < 0 ? -1 : start + (r - row) * cols); r++) length += cols;
  return { offset: start < 0 ? -1 : start + within, length: Math.min(length, most) };
}

/** From matrices stored [in, out], in pieces of any size, to whole ones [out, in]. */
function* transposedMatrices(elements: Iterable<Float32Array>, { matrixRows: rows, cols }: Piece): Generator<Float32Array> {
  let matrix = new Float32Array(rows * cols);
  let filled = 0;
  for (const values of elements) {
    for (const value of values) {
      matrix[(filled % rows) * cols + Math.floor(filled / rows)] = value;
      if (++filled < matrix.length) continue;
      yield matrix;
      matrix = new Float32Array(rows * cols);
      filled = 0;
    }
  }
}

/** A tensor as a file keeps it: little-endian F32, read from the engine piece by piece. */
export function storedTensor(engine: Engine, name: string, tensor: Tensor): TensorToWrite {
  return {
    name,
    dtype: "F32",
    shape: tensor.shape,
    *chunks() {
      for (let first = 0; first < tensor.size; first += chunkElements) {
        const values = engine.read(view(tensor, [Math.min(chunkElements, tensor.size - first)], first));
        yield bytesOf(values instanceof Float32Array ? values : Float32Array.from(values));
      }
    },
  };
}

const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** Bytes read at a time. */
const chunkBytes = 2 ** 22;

/** A stored tensor's elements as f32, in order, some megabytes at a time. */
export function* decodeTensor({ type, file, begin, end }: { type: GgufType; file: string; begin: number; end: number }): Generator<Float32Array> {
  const step = Math.floor(chunkBytes / ggufTypes[type].bytes) * ggufTypes[type].bytes;
  for (const bytes of readChunks(file, begin, end, step)) yield decodeBlocks(type, bytes);
}

/** All of a tensor that comes in pieces, which must be small. */
export const joined = (pieces: Iterable<Float32Array>): Float32Array<ArrayBuffer> => Float32Array.from([...pieces].flatMap((values) => [...values]));

/** The bytes of a whole tensor, which must be small. */
export function readBytes({ file, begin, end }: CheckpointTensor): Uint8Array {
  const [bytes = new Uint8Array(0)] = [...readChunks(file, begin, end, Math.max(1, end - begin))];
  return bytes;
}

/** Throws ERR_SWITCHYARD_FORMAT naming the tensor unless it has this shape. */
export function checkStoredShape(name: string, stored: CheckpointTensor, shape: readonly number[], reason: string): void {
  check(
    stored.shape.length === shape.length && stored.shape.every((n, i) => n === shape[i]),
    "ERR_SWITCHYARD_FORMAT",
    () => `${stored.file}: tensor "${name}": ${reason} [${shape.join(", ")}], the file has [${stored.shape.join(", ")}]`,
  );
}
