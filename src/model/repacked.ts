import { Arena } from "../engine/arena.js";
import type { Engine, LooseRows } from "../engine/engine.js";
import type { CheckpointTensor } from "../formats/checkpoint.js";
import type { Fp8 } from "../quant/fp8.js";
import { byteLength, storedBlocks, type StoredDType } from "../tensor/dtype.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { Piece } from "./families/names.js";
import { MappedFiles } from "./mapped-files.js";

/** Bytes of a file, from `begin` on. */
interface FileBytes {
  file: string;
  begin: number;
  bytes: number;
}

/** How a file has a matrix [rows, cols] that products read only in another order: see `LooseRows`. */
export interface Loose extends Pick<LooseRows, "block" | "scaleType"> {
  elements: FileBytes;
  scales?: FileBytes | undefined;
}

/** One whole matrix. */
interface LooseMatrix extends Loose {
  rows: number;
  /** Which row of the parameter its row r is, counted through all matrices of the parameter; -1 if it is none. */
  at(r: number): number;
}

/** Which rows of a parameter the rows of a matrix become: those from `first` on in the same order, or row r becomes `first + rows[r]`; -1 in `rows`: none. */
interface Places {
  first: number;
  rows?: Int32Array | undefined;
}

export function placesOf({ rows, at }: LooseMatrix): Places {
  const places = Int32Array.from({ length: rows }, (_, r) => at(r));
  const first = places.reduce((least, place) => (place >= 0 ? Math.min(least, place) : least), Infinity);
  if (places.every((place, r) => place === first + r)) return { first };
  return { first, rows: places.map((place) => Math.max(-1, place - first)) };
}

/**
 * Weights of a type that products read, but not as files have them: 16-bit matrices that stand [in, out], and 8-bit floats and MXFP4 with their
 * scales apart. They become, bit for bit, rows [out, in] of blocks.
 */
export interface Repacked {
  dtype: StoredDType;
  matrices: readonly LooseMatrix[];
}

/** A parameter whose pieces are all of one such type; undefined for any other. */
export function repacked(pieces: readonly (Repacked | undefined)[]): Repacked | undefined {
  const [first] = pieces;
  if (first === undefined || !pieces.every((piece) => piece?.dtype === first.dtype)) return undefined;
  return { dtype: first.dtype, matrices: (pieces as readonly Repacked[]).flatMap(({ matrices }) => matrices) };
}

/** Copies the weights into `parameter`, of this type and of the parameter's shape. `onBytes` is told how many bytes of it have been written since it was called last. */
export function copyRepacked(engine: Engine, parameter: Tensor, { matrices }: Repacked, onBytes?: (bytes: number) => void): void {
  const { cols } = parameter;
  // Not as long as the model: what has been read must not count as the process's own.
  using files = new MappedFiles(engine);
  const map = ({ file, begin, bytes }: FileBytes) => files.tensor(file, "u8", [bytes], begin);
  for (const [i, matrix] of matrices.entries()) {
    const { rows, block, scaleType } = matrix;
    const places = placesOf(matrix);
    using arena = new Arena(engine, 0);
    const index = places.rows && arena.alloc("i32", [rows]);
    if (index !== undefined) engine.write(index, places.rows as Int32Array);
    const elements = map(matrix.elements);
    const next = matrices[i + 1];
    if (next !== undefined) engine.advise(map(next.elements), true);
    const out = view(parameter, [index === undefined ? rows : parameter.rows - places.first, cols], places.first * cols);
    engine.repack(out, { rows, elements, scales: matrix.scales && map(matrix.scales), block, scaleType, places: index });
    onBytes?.(byteLength(parameter.dtype, rows * cols));
  }
}

/** The matrices of a piece that stand one after the other, `bytesEach` of elements and `scaleBytes` of scales. */
function matricesOf({ rows, matrixRows, cols, at }: Piece, elements: CheckpointTensor, bytesEach: number, scales?: CheckpointTensor, scaleBytes = 0): LooseMatrix[] {
  const part = ({ file, begin }: CheckpointTensor, m: number, bytes: number): FileBytes => ({ file, begin: begin + m * bytes, bytes });
  return Array.from({ length: rows / matrixRows }, (_, m) => ({
    elements: part(elements, m, bytesEach),
    scales: scales && part(scales, m, scaleBytes),
    rows: matrixRows,
    at: (r) => Math.floor(at(m * matrixRows + r) / cols),
  }));
}

/** Blocks of 16 bytes and their scales, [out, in]. */
export function mxfp4Matrices(piece: Piece, blocks: CheckpointTensor, scales: CheckpointTensor): Repacked {
  const size = piece.matrixRows * piece.cols;
  return { dtype: "mxfp4", matrices: matricesOf(piece, blocks, size / 2, scales, size / 32) };
}

/** A matrix [out, in] of 8-bit floats, and its scales [blocks of rows, blocks of columns]. */
export interface Fp8Matrix {
  dtype: Fp8;
  stored: CheckpointTensor;
  cols: number;
  scales: CheckpointTensor;
  /** Rows and columns that share a scale. */
  block: readonly [number, number];
}

/** Blocks of 128 behind the scale that they have; undefined where one would have several. */
export function fp8Matrices(piece: Piece, { dtype, stored, cols, scales, block }: Fp8Matrix): Repacked | undefined {
  const type = dtype === "F8_E4M3" ? "fp8_e4m3" : "fp8_e5m2";
  const [elements] = storedBlocks[type];
  const scaleType = ({ F32: "f32", BF16: "bf16" } as const)[scales.dtype as string];
  if (piece.transposed || cols % elements !== 0 || block[1] % elements !== 0 || scaleType === undefined) return undefined;
  const matrices = matricesOf({ ...piece, matrixRows: piece.rows }, stored, stored.end - stored.begin, scales, scales.end - scales.begin);
  return { dtype: type, matrices: matrices.map((matrix) => ({ ...matrix, block, scaleType })) };
}

/** 16-bit matrices that stand [in, out]; undefined for any others. */
export function transposedMatrices(piece: Piece, stored: CheckpointTensor | undefined): Repacked | undefined {
  if (stored === undefined || !piece.transposed || (stored.dtype !== "BF16" && stored.dtype !== "F16")) return undefined;
  return { dtype: stored.dtype === "BF16" ? "bf16" : "f16", matrices: matricesOf(piece, stored, 2 * piece.matrixRows * piece.cols) };
}
