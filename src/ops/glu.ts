import { gradOf, type Tape } from "../autograd/tape.js";
import type { Activation } from "../engine/engine.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

export interface GluArguments {
  activation: Activation;
  /** x is gate then up, [.., 2F]; otherwise [.., F]. */
  gated: boolean;
  /** Factor of each row, [rows]. */
  rowScale?: Tensor | undefined;
  /** i32 [E+1]: rows at and beyond its last element do not exist. */
  offsets?: Tensor | undefined;
}

/** h = act(gate) * up * rowScale (gated, Shazeer 2020, arXiv 2002.05202) or act(x) * rowScale. Differentiable in x and rowScale. */
export function glu(tape: Tape, x: Tensor, options: GluArguments): Tensor {
  const { engine } = tape;
  const { gated, rowScale } = options;
  check(!gated || x.cols % 2 === 0, "ERR_SWITCHYARD_SHAPE", () => `glu: expected gate and up side by side, an even last dimension, got ${x}`);
  check(rowScale === undefined || rowScale.size === x.rows, "ERR_SWITCHYARD_SHAPE", () => `glu: expected one scale per row of ${x}, got ${rowScale}`);
  const h = tape.alloc([...x.shape.slice(0, -1), gated ? x.cols / 2 : x.cols]);
  engine.glu(h, x, options);
  tape.record([h], [x, rowScale], () => {
    const dx = tape.borrow(x);
    const dscale = rowScale === undefined ? undefined : tape.borrow(rowScale);
    engine.gluBackward(dx, dscale, gradOf(h), x, options);
    tape.give(x, dx);
    if (rowScale !== undefined && dscale !== undefined) tape.give(rowScale, dscale);
  });
  return h;
}
