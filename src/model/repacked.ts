import type { Engine } from "../engine/engine.js";
import { type CheckpointTensor, readAsF32 } from "../formats/checkpoint.js";
import { readChunks } from "../formats/chunks.js";
import { packMxfp4Pairs } from "../quant/fp4.js";
import type { Fp8 } from "../quant/fp8.js";
import { byteLength, storedBlocks, type StoredDType } from "../tensor/dtype.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { Piece } from "./families/names.js";
import { joined, readBytes, run } from "./stored.js";

/**
 * Weights of a type that products read, but not as files have them: 16-bit matrices that stand [in, out], and 8-bit floats and MXFP4 with their
 * scales apart. They are copied once, bit for bit, as rows [out, in] of blocks.
 */
export interface Repacked {
  dtype: StoredDType;
  /** Into `parameter`, of this type and of the parameter's shape. */
  copy(engine: Engine, parameter: Tensor): void;
}

/** The rows [out, in] of a piece, some whole rows of one matrix at a time. */
export interface RepackedRows {
  dtype: StoredDType;
  piece: Piece;
  rows(): Iterable<Uint8Array>;
}

/** A parameter whose pieces are all of one such type; undefined for any other. */
export function repacked(pieces: readonly (RepackedRows | undefined)[]): Repacked | undefined {
  const [first] = pieces;
  if (first === undefined || !pieces.every((piece) => piece?.dtype === first.dtype)) return undefined;
  return { dtype: first.dtype, copy: (engine, parameter) => (pieces as readonly RepackedRows[]).forEach((piece) => copyRows(engine, parameter, piece)) };
}

function copyRows(engine: Engine, parameter: Tensor, { dtype, piece, rows }: RepackedRows): void {
  const { cols } = piece;
  const perRow = byteLength(dtype, cols);
  let first = 0;
  for (const bytes of rows()) {
    const size = (bytes.length / perRow) * cols;
    for (let done = 0; done < size; ) {
      const { offset, length } = run(piece, first + done, size - done);
      if (offset >= 0) engine.write(view(parameter, [length / cols, cols], offset), bytes.subarray(byteLength(dtype, done), byteLength(dtype, done + length)));
      done += length;
    }
    first += size;
  }
}

/** Bytes read at a time. */
const chunkBytes = 2 ** 22;

/** Blocks of 16 bytes and their scales, [out, in]. */
export function mxfp4Rows(piece: Piece, blocks: CheckpointTensor, scales: CheckpointTensor): RepackedRows {
  const perRow = piece.cols / 2;
  return {
    dtype: "mxfp4",
    piece,
    *rows() {
      const all = readBytes(scales);
      let first = 0;
      for (const bytes of readChunks(blocks.file, blocks.begin, blocks.end, Math.ceil(chunkBytes / perRow) * perRow)) {
        const count = bytes.length / 16;
        yield packMxfp4Pairs(bytes, all.subarray(first, first + count));
        first += count;
      }
    },
  };
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
export function fp8Rows(piece: Piece, { dtype, stored, cols, scales, block: [height, width] }: Fp8Matrix): RepackedRows | undefined {
  const type = dtype === "F8_E4M3" ? "fp8_e4m3" : "fp8_e5m2";
  const [elements, size] = storedBlocks[type];
  if (piece.transposed || cols % elements !== 0 || width % elements !== 0) return undefined;
  return {
    dtype: type,
    piece,
    *rows() {
      const scale = new Uint8Array(joined(readAsF32(scales)).buffer);
      const perRow = Math.ceil(cols / width);
      let row = 0;
      for (const bytes of readChunks(stored.file, stored.begin, stored.end, Math.ceil(chunkBytes / cols) * cols)) {
        const out = new Uint8Array(byteLength(type, bytes.length));
        for (let from = 0, to = 0; from < bytes.length; from += elements, to += size) {
          const at = 4 * (Math.floor((row + Math.floor(from / cols)) / height) * perRow + Math.floor((from % cols) / width));
          out.set(scale.subarray(at, at + 4), to);
          out.set(bytes.subarray(from, from + elements), to + 4);
        }
        yield out;
        row += bytes.length / cols;
      }
    },
  };
}

/** 16-bit matrices that stand [in, out]; undefined for any others. */
export function transposedRows(piece: Piece, stored: CheckpointTensor | undefined): RepackedRows | undefined {
  if (stored === undefined || !piece.transposed || (stored.dtype !== "BF16" && stored.dtype !== "F16")) return undefined;
  const { matrixRows, cols } = piece;
  return {
    dtype: stored.dtype === "BF16" ? "bf16" : "f16",
    piece,
    *rows() {
      for (const { buffer } of readChunks(stored.file, stored.begin, stored.end, 2 * matrixRows * cols)) yield transpose16(new Uint16Array(buffer), cols, matrixRows);
    },
  };
}

/** The bytes of a matrix [rows, cols] as [cols, rows]; in squares that the L1 holds. */
function transpose16(x: Uint16Array, rows: number, cols: number): Uint8Array {
  const side = 32;
  const out = new Uint16Array(x.length);
  for (let top = 0; top < rows; top += side) {
    const bottom = Math.min(rows, top + side);
    for (let left = 0; left < cols; left += side) {
      const right = Math.min(cols, left + side);
      for (let c = left; c < right; c++) for (let r = top; r < bottom; r++) out[c * rows + r] = x[r * cols + c] as number;
    }
  }
  return new Uint8Array(out.buffer);
}
