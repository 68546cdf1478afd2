import type { Tensor } from "../tensor/tensor.js";

/** Rows of a matrix as a file has them, as bytes (u8) that may begin anywhere. */
export interface LooseRows {
  /** How many. */
  rows: number;
  /** MXFP4: two to a byte, the first of them low; 8-bit floats: one. 16-bit floats: those of a matrix [columns, rows]. */
  elements: Tensor;
  /** MXFP4: a byte for every 32 elements. 8-bit floats: as `block` and `scaleType` say. */
  scales?: Tensor | undefined;
  /** Rows and columns, a multiple of 128, that share a scale. */
  block?: readonly [rows: number, cols: number] | undefined;
  scaleType?: "f32" | "bf16" | undefined;
  /** i32 [rows]: the row of `out` that each is, all different; negative for none. Default: its own number. */
  places?: Tensor | undefined;
}

export interface RepackingOps {
  /** Rows as products read them, of the type of `out`: mxfp4, fp8_e4m3, fp8_e5m2, f16 or bf16. The elements are the same, bit for bit. */
  repack(out: Tensor, x: LooseRows): void;
}
