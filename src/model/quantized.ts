import type { Engine } from "../engine/engine.js";
import { check, SwitchyardError } from "../errors.js";
import { type CheckpointTensor, readAsF32 } from "../formats/checkpoint.js";
import { readChunks } from "../formats/chunks.js";
import { decodeMxfp4Pairs } from "../quant/fp4.js";
import { decodeFp8Blocks, type Fp8 } from "../quant/fp8.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Piece } from "./families/names.js";
import type { Quantization } from "./families/quantization.js";
import { type Fp8Matrix, fp8Matrices, mxfp4Matrices, type Repacked, transposedMatrices } from "./repacked.js";
import { checkStoredShape, joined, readBytes, readPiece } from "./stored.js";

type Tensors = ReadonlyMap<string, CheckpointTensor>;

interface Mxfp4Tensors {
  blocks: CheckpointTensor;
  scales: CheckpointTensor;
}

/** A tensor of a checkpoint that can be read: copies it to where it belongs. */
type Reader = (engine: Engine, parameter: Tensor) => void;

/**
 * How a piece is read: plain floats; 8-bit floats, whose scales are the tensor "NAME_scale_inv"; or MXFP4, "NAME_blocks" and "NAME_scales".
 * Throws ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_UNSUPPORTED naming the tensor.
 */
export function pieceReader(source: string, piece: Piece, tensors: Tensors, quantization: Quantization | undefined): Reader {
  const { name, shape } = piece;
  const mxfp4 = mxfp4Tensors(piece, tensors, quantization);
  if (mxfp4 !== undefined) return mxfp4Reader(piece, mxfp4);
  const stored = tensors.get(name);
  check(stored !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${source}: tensor "${name}" is missing`);
  checkStoredShape(name, stored, shape, "config.json says");
  const fp8 = fp8Tensors(piece, tensors, quantization);
  return (engine, parameter) => readPiece(engine, parameter, piece, fp8 === undefined ? readAsF32(stored) : fp8Elements(fp8));
}

/** The same piece for products, where `repacked` can make it so. */
export function repackedPiece(piece: Piece, tensors: Tensors, quantization: Quantization | undefined): Repacked | undefined {
  if (piece.columns !== undefined || piece.elements !== undefined) return undefined;
  const mxfp4 = mxfp4Tensors(piece, tensors, quantization);
  if (mxfp4 !== undefined) return mxfp4Matrices(piece, mxfp4.blocks, mxfp4.scales);
  const fp8 = fp8Tensors(piece, tensors, quantization);
  return fp8 === undefined ? transposedMatrices(piece, tensors.get(piece.name)) : fp8Matrices(piece, fp8);
}

const isFp8 = (dtype: string): dtype is Fp8 => dtype === "F8_E4M3" || dtype === "F8_E5M2";

/** A matrix of 8-bit floats and its scales; undefined for a tensor of another type. */
function fp8Tensors({ name }: Piece, tensors: Tensors, quantization: Quantization | undefined): Fp8Matrix | undefined {
  const stored = tensors.get(name);
  if (stored === undefined || !isFp8(stored.dtype)) return undefined;
  const { dtype } = stored;
  const scales = tensors.get(`${name}_scale_inv`);
  const [rows = 0, cols = 0] = stored.shape;
  if (quantization?.method !== "fp8" || scales === undefined || stored.shape.length !== 2) {
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${stored.file}: tensor "${name}": expected a matrix with scales "${name}_scale_inv" and a weight_block_size in config.json beside its ${dtype}`);
  }
  const { block } = quantization;
  checkStoredShape(`${name}_scale_inv`, scales, [Math.ceil(rows / block[0]), Math.ceil(cols / block[1])], `expected, for [${rows}, ${cols}] in blocks of ${block.join(" x ")},`);
  return { dtype, stored, cols, scales, block };
}

function* fp8Elements({ dtype, stored, cols, scales, block }: Fp8Matrix): Generator<Float32Array> {
  const perRow = Math.ceil(cols / block[1]);
  const all = joined(readAsF32(scales));
  let first = 0;
  for (const bytes of readChunks(stored.file, stored.begin, stored.end, block[0] * cols)) {
    yield decodeFp8Blocks(dtype, bytes, [bytes.length / cols, cols], all.subarray(first, first + perRow), block);
    first += perRow;
  }
}

/** Matrices of MXFP4 stand [out, in], whatever the plain form of the tensor is, each row in blocks of 32: 16 bytes and one scale. */
function mxfp4Tensors({ name, rows, matrixRows, cols }: Piece, tensors: Tensors, quantization: Quantization | undefined): Mxfp4Tensors | undefined {
  const blocks = tensors.get(`${name}_blocks`);
  if (blocks === undefined || quantization?.method !== "mxfp4") return undefined;
  const scales = tensors.get(`${name}_scales`);
  check(scales !== undefined && cols % 32 === 0, "ERR_SWITCHYARD_FORMAT", () => `${blocks.file}: tensor "${name}_blocks": expected "${name}_scales" beside it and rows of whole blocks of 32 elements, got rows of ${cols}`);
  const lead = [rows / matrixRows, matrixRows, cols / 32];
  checkStoredShape(`${name}_blocks`, blocks, [...lead, 16], "config.json says");
  checkStoredShape(`${name}_scales`, scales, lead, "config.json says");
  check(blocks.dtype === "U8" && scales.dtype === "U8", "ERR_SWITCHYARD_FORMAT", () => `${blocks.file}: tensor "${name}_blocks": expected blocks and scales of U8, got ${blocks.dtype} and ${scales.dtype}`);
  return { blocks, scales };
}

function mxfp4Reader(piece: Piece, { blocks, scales }: Mxfp4Tensors): Reader {
  const { cols } = piece;
  const elements = function* () {
    const all = readBytes(scales);
    let first = 0;
    for (const bytes of readChunks(blocks.file, blocks.begin, blocks.end, cols / 2)) {
      yield decodeMxfp4Pairs(bytes, all.subarray(first, first + cols / 32));
      first += cols / 32;
    }
  };
  return (engine, parameter) => readPiece(engine, parameter, piece, elements(), false);
}
