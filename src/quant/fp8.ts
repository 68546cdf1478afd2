import { check } from "../errors.js";
import { e4m3Values, e5m2Values } from "../tensor/fp8.js";

export type Fp8 = "F8_E4M3" | "F8_E5M2";

const values: Readonly<Record<Fp8, Readonly<Float32Array>>> = { F8_E4M3: e4m3Values, F8_E5M2: e5m2Values };

/**
 * A matrix of 8-bit floats with one f32 scale per block of `block` (rows, columns), as DeepSeek-V3 publishes its weights
 * (`weight_scale_inv`): w[i][j] = q[i][j] * scales[i / rows][j / columns]. Blocks at the edges are cut off.
 */
export function decodeFp8Blocks(type: Fp8, bytes: Uint8Array, shape: readonly [number, number], scales: Float32Array, block: readonly [number, number] = [128, 128]): Float32Array {
  const [rows, cols] = shape;
  const scaleCols = Math.ceil(cols / block[1]);
  const expected = Math.ceil(rows / block[0]) * scaleCols;
  check(
    bytes.length === rows * cols && scales.length === expected,
    "ERR_SWITCHYARD_SHAPE",
    () => `decode ${type} [${rows}, ${cols}] in blocks of ${block.join(" x ")}: expected ${rows * cols} bytes and ${expected} scales, got ${bytes.length} and ${scales.length}`,
  );
  const table = values[type];
  const out = new Float32Array(bytes.length);
  for (let i = 0; i < rows; i++) {
    const first = Math.floor(i / block[0]) * scaleCols;
    for (let j = 0; j < cols; j++) out[i * cols + j] = table[bytes[i * cols + j]] * scales[first + Math.floor(j / block[1])];
  }
  return out;
}
