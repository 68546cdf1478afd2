import { gradOf, type Tape } from "../autograd/tape.js";
import type { Activation, GluOptions } from "../engine/engine.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * h = act(gate) * up * rowScale (gated, Shazeer 2020, arXiv 2002.05202) or act(x) * rowScale; bias, clamp and scale as in GluOptions.
 * Differentiable in x and rowScale; throws ERR_SWITCHYARD_USAGE when a bias requires a gradient.
 */
export function glu(tape: Tape, x: Tensor, options: GluOptions): Tensor {
  const { engine } = tape;
  const { gated, rowScale, bias, offsets } = options;
  check(!gated || x.cols % 2 === 0, "ERR_SWITCHYARD_SHAPE", () => `glu: expected gate and up side by side, an even last dimension, got ${x}`);
  check(rowScale === undefined || rowScale.size === x.rows, "ERR_SWITCHYARD_SHAPE", () => `glu: expected one scale per row of ${x}, got ${rowScale}`);
  if (bias !== undefined) {
    const groups = offsets === undefined ? 1 : offsets.size - 1;
    check(
      bias.cols === x.cols && bias.size === groups * x.cols,
      "ERR_SWITCHYARD_SHAPE",
      () => `glu: expected a bias of ${groups} x ${x.cols} elements, one row per group of ${x}, got ${bias}`,
    );
    check(!(tape.recording && bias.requiresGrad), "ERR_SWITCHYARD_USAGE", () => "glu: a bias gets no gradient; record with a bias that requires none");
  }
  const h = tape.alloc([...x.shape.slice(0, -1), gated ? x.cols / 2 : x.cols]);
  engine.glu(h, x, options);
  tape.record([h], [x, rowScale], () => tape.overwrite([x, rowScale], ([dx, dscale]) => engine.gluBackward(dx, dscale, gradOf(h), x, options)));
  return h;
}

/** act(x), element by element. */
export const activate = (tape: Tape, x: Tensor, activation: Activation): Tensor => glu(tape, x, { activation, gated: false });
