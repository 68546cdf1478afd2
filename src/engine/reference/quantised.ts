import { check } from "../../errors.js";
import { blockElements, byteLength, isStoredFloat, storedBlocks, type StoredDType, type StoredFloat } from "../../tensor/dtype.js";
import { e4m3Values, e5m2Values } from "../../tensor/fp8.js";
import { bf16At, f16At, f32At } from "../../tensor/half.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Floats } from "./arrays.js";
import { type Block, blockFormats, decodeBlock, type QuantisedDType } from "./blocks.js";

/** Weights of a stored type: what their elements are, and what their product with f32 rows is. */

const f = Math.fround;
/** Elements of a row of activations that share a scale. */
const run = 32;
/** A run whose elements are all closer to 0 than this is taken as zeros: the reciprocal of its scale could overflow. */
const tiny = 2 ** -100;

export function storedBytes(t: Tensor): Uint8Array {
  const { storage } = t;
  check(storage instanceof Uint8Array, "ERR_SWITCHYARD_DTYPE", () => `reference engine: expected a stored tensor of this engine, got ${t}`);
  return storage;
}

const fp8At = (values: Readonly<Float32Array>) => (bytes: Uint8Array, at: number, i: number) => f(values[bytes[at + 4 + i]] * f32At(bytes, at));

/** Element i of the block at byte `at`. */
const floatAt: Readonly<Record<StoredFloat, (bytes: Uint8Array, at: number, i: number) => number>> = { f16: f16At, bf16: bf16At, fp8_e4m3: fp8At(e4m3Values), fp8_e5m2: fp8At(e5m2Values) };

/** Row `row` of a matrix of `cols` columns as f32, to out[to...]. */
export function decodeRow(dtype: StoredDType, bytes: Uint8Array, row: number, cols: number, out: Floats, to: number): void {
  const start = byteLength(dtype, row * cols);
  const [elements, size] = storedBlocks[dtype];
  if (isStoredFloat(dtype)) for (let i = 0; i < cols; i++) out[to + i] = floatAt[dtype](bytes, start + Math.floor(i / elements) * size, i % elements);
  else for (let k = 0; k < cols; k += elements) decodeBlock(dtype, bytes, start + (k / elements) * size, out, to + k);
}

/** All blocks of a row side by side. */
function readRow(dtype: QuantisedDType, bytes: Uint8Array, row: number, cols: number): Block {
  const { group, decode } = blockFormats[dtype];
  const whole = { q: new Int16Array(cols), scale: new Float32Array(cols / group), minimum: new Float32Array(cols / group) };
  const elements = blockElements(dtype);
  for (let k = 0; k < cols; k += elements) {
    const [from, to] = [k / group, (k + elements) / group];
    const block = { q: whole.q.subarray(k, k + elements), scale: whole.scale.subarray(from, to), minimum: whole.minimum.subarray(from, to) };
    decode(bytes, byteLength(dtype, row * cols + k), block);
  }
  return whole;
}

/** Rows of int8 with a scale per 32 elements: x is about scale * q, |q| <= 127. */
interface QuantisedRows {
  q: Int8Array;
  scale: Float32Array;
}

/** x of f32 to the 11 significant bits of an f16, ties to even, in the range of f32: llama.cpp's scales of activations, but none overflows or vanishes. */
function elevenBits(x: number): number {
  if (!Number.isFinite(x)) return x;
  bits[0] = x;
  word[0] = (word[0] + 0x0fff + ((word[0] >>> 13) & 1)) & ~0x1fff;
  return bits[0];
}

const bits = new Float32Array(1);
const word = new Uint32Array(bits.buffer);

/** Rounds to nearest, ties to even. A run with a NaN or an infinity gets a scale that is not finite, and so do its products. */
function quantiseRows(x: Floats): QuantisedRows {
  const q = new Int8Array(x.length);
  const scale = new Float32Array(x.length / run);
  for (let r = 0; r < scale.length; r++) {
    let largest = 0;
    for (let i = 0; i < run; i++) largest = Math.max(largest, Math.abs(f(x[r * run + i])));
    if (largest < tiny) continue;
    scale[r] = elevenBits(largest / 127);
    const inverse = f(127 / largest);
    for (let i = 0; i < run; i++) q[r * run + i] = roundEven(f(f(x[r * run + i]) * inverse));
  }
  return { q, scale };
}

function roundEven(x: number): number {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}

/**
 * a[M,K] w[N,K]^T, element (m, n) by write(m, n, start), which is given how to go on from a first value. Groups come in rising order, each one
 * exact integer sum and one or two fused multiply-adds in f32: sum = fma(products, fl(scale_w * scale_a), sum), and for types with minima
 * then sum = fma(-minimum_w, fl(scale_a * total of q_a), sum).
 */
export function quantisedProduct(dtype: QuantisedDType, a: Floats, w: Uint8Array, N: number, K: number, write: (m: number, n: number, add: (first: number) => number) => void): void {
  const { group } = blockFormats[dtype];
  const rows = quantiseRows(a);
  const M = K === 0 ? 0 : a.length / K;
  for (let n = 0; n < N; n++) {
    const { q, scale, minimum } = readRow(dtype, w, n, K);
    for (let m = 0; m < M; m++) {
      write(m, n, (first) => {
        let sum = first;
        for (let g = 0; g < scale.length; g++) {
          let products = 0;
          let total = 0;
          for (let k = g * group; k < (g + 1) * group; k++) {
            const x = rows.q[m * K + k];
            products += x * q[k];
            total += x;
          }
          const scale_a = rows.scale[Math.floor((m * K + g * group) / run)];
          sum = f(sum + products * f(scale[g] * scale_a));
          if (withMinima.has(dtype)) sum = f(sum - minimum[g] * f(scale_a * total));
        }
        return sum;
      });
    }
  }
}

const withMinima: ReadonlySet<StoredDType> = new Set(["q4_1", "q5_1", "q2_k", "q4_k", "q5_k"]);
