import type { Tensor } from "../../tensor/tensor.js";
import type { RopeDims } from "../engine.js";
import { floats, indices } from "./arrays.js";

export function rope(out: Tensor, x: Tensor, table: Tensor, positions: Tensor, dims: RopeDims): void {
  const { heads, headDim, first = 0, rotary = headDim } = dims;
  const O = floats(out);
  const X = floats(x);
  const cosSin = floats(table);
  const positions_T = indices("rope", positions, table.rows, 0);
  const half = rotary / 2;
  const [step, apart] = dims.interleaved === true ? [2, 1] : [1, half];
  const sign = dims.inverse === true ? -1 : 1;
  if (out !== x) O.set(X);
  for (let t = 0; t < positions_T.length; t++) {
    const angle = positions_T[t] * rotary;
    for (let h = 0; h < heads; h++) {
      const at = (t * heads + h) * headDim + first;
      for (let j = 0; j < half; j++) {
        const cos = cosSin[angle + j];
        const sin = sign * cosSin[angle + half + j];
        const x0 = X[at + j * step];
        const x1 = X[at + j * step + apart];
        O[at + j * step] = x0 * cos - x1 * sin;
        O[at + j * step + apart] = x1 * cos + x0 * sin;
      }
    }
  }
}
