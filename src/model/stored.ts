import type { Engine } from "../engine/engine.js";
import { check, SwitchyardError } from "../errors.js";
import { type CheckpointTensor, readAsF32 } from "../formats/checkpoint.js";
import { readChunks } from "../formats/chunks.js";
import { decodeFp8Blocks, type Fp8 } from "../quant/fp8.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { Fp8Block } from "./families/quantization.js";

/** Copies a stored tensor of plain floats into `target`, which has its shape, piece by piece. */
export function readTensor(engine: Engine, target: Tensor, stored: CheckpointTensor): void {
  writePieces(engine, target, readAsF32(stored));
}

function writePieces(engine: Engine, target: Tensor, pieces: Iterable<Float32Array>): void {
  let first = 0;
  for (const values of pieces) {
    engine.write(view(target, [values.length], first), values);
    first += values.length;
  }
}

const isFp8 = (dtype: string): dtype is Fp8 => dtype === "F8_E4M3" || dtype === "F8_E5M2";

/** One tensor of a checkpoint by its name, also one of 8-bit floats, whose scales are the tensor "NAME_scale_inv". */
export function readWeight(engine: Engine, target: Tensor, name: string, tensors: ReadonlyMap<string, CheckpointTensor>, block: Fp8Block | undefined): void {
  const stored = tensors.get(name) as CheckpointTensor;
  if (!isFp8(stored.dtype)) return readTensor(engine, target, stored);
  const scales = tensors.get(`${name}_scale_inv`);
  const [rows = 0, cols = 0] = stored.shape;
  if (block === undefined || scales === undefined || stored.shape.length !== 2) {
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${stored.file}: tensor "${name}": expected a matrix with scales "${name}_scale_inv" and a weight_block_size in config.json beside its ${stored.dtype}`);
  }
  const expected = [Math.ceil(rows / block[0]), Math.ceil(cols / block[1])];
  check(
    scales.shape.length === 2 && scales.shape.every((n, i) => n === expected[i]),
    "ERR_SWITCHYARD_FORMAT",
    () => `${scales.file}: tensor "${name}_scale_inv": expected [${expected.join(", ")}] for [${rows}, ${cols}] in blocks of ${block.join(" x ")}, got [${scales.shape.join(", ")}]`,
  );
  writePieces(engine, target, decodeMatrix(stored.dtype, stored, scales, block));
}

/** A matrix of 8-bit floats, one row of blocks at a time. */
function* decodeMatrix(dtype: Fp8, { file, begin, end, shape }: CheckpointTensor, scales: CheckpointTensor, block: Fp8Block): Generator<Float32Array> {
  const cols = shape[1] as number;
  const perRow = Math.ceil(cols / block[1]);
  const all = Float32Array.from([...readAsF32(scales)].flatMap((piece) => Array.from(piece)));
  let first = 0;
  for (const bytes of readChunks(file, begin, end, block[0] * cols)) {
    yield decodeFp8Blocks(dtype, bytes, [bytes.length / cols, cols], all.subarray(first, first + perRow), block);
    first += perRow;
  }
}
