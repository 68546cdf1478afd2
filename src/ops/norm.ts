import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { type Tensor, view } from "../tensor/tensor.js";

/**
 * RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) over groups of weight.size elements: the whole row,
 * or each head of it when the weight is as long as a head.
 */
export function rmsNorm(tape: Tape, x: Tensor, weight: Tensor, eps: number): Tensor {
  const { engine } = tape;
  check(x.cols % weight.size === 0, "ERR_SWITCHYARD_SHAPE", () => `rmsNorm: ${x} cannot be divided into groups of ${weight.size}`);
  const y = tape.alloc(x.shape);
  const grouped = (t: Tensor) => view(t, [t.size / weight.size, weight.size]);
  engine.rmsNorm(grouped(y), grouped(x), weight, eps);
  tape.record([y], [x, weight], () => {
    const dy = grouped(gradOf(y));
    const none = { dx: false, dweight: false };
    tape.into(x, (dx, accumulate) => engine.rmsNormBackward(grouped(dx), undefined, dy, grouped(x), weight, eps, { ...none, dx: accumulate }));
    tape.into(weight, (dweight, accumulate) => engine.rmsNormBackward(undefined, dweight, dy, grouped(x), weight, eps, { ...none, dweight: accumulate }));
  });
  return y;
}

/** LayerNorm (Ba et al. 2016, arXiv 1607.06450) over the last dimension. */
export function layerNorm(tape: Tape, x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  const { engine } = tape;
  check(x.cols === weight.size && x.cols === bias.size, "ERR_SWITCHYARD_SHAPE", () => `layerNorm: expected weight and bias of ${x.cols} elements, got ${weight} and ${bias}`);
  const y = tape.alloc(x.shape);
  engine.layerNorm(y, x, weight, bias, eps);
  const none = { dx: false, dweight: false, dbias: false };
  tape.record([y], [x, weight, bias], () => {
    const dy = gradOf(y);
    tape.into(x, (dx, accumulate) => engine.layerNormBackward(dx, undefined, undefined, dy, x, weight, eps, { ...none, dx: accumulate }));
    tape.into(weight, (dw, accumulate) => engine.layerNormBackward(undefined, dw, undefined, dy, x, weight, eps, { ...none, dweight: accumulate }));
    tape.into(bias, (db, accumulate) => engine.layerNormBackward(undefined, undefined, db, dy, x, weight, eps, { ...none, dbias: accumulate }));
  });
  return y;
}
