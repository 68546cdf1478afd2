import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { type Tensor, view } from "../tensor/tensor.js";

export interface RmsNormOptions {
  /** Added to the weight: 1 for weights that are stored around zero. */
  offset?: number | undefined;
  /** Elements of a group; by default those of the weight, or the whole row without one. */
  size?: number | undefined;
}

/**
 * RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) over groups of elements: the whole row, or each head of it when
 * the weight is as long as a head. Without a weight nothing is multiplied.
 */
export function rmsNorm(tape: Tape, x: Tensor, weight: Tensor | undefined, eps: number, { offset = 0, size = weight?.size ?? x.cols }: RmsNormOptions = {}): Tensor {
  const { engine } = tape;
  check(
    x.cols % size === 0 && (weight === undefined || weight.size === size),
    "ERR_SWITCHYARD_SHAPE",
    () => `rmsNorm: ${x} cannot be divided into groups of ${size}, each multiplied by ${weight}`,
  );
  const y = tape.alloc(x.shape);
  const grouped = (t: Tensor) => view(t, [t.size / size, size]);
  engine.rmsNorm(grouped(y), grouped(x), weight, eps, offset);
  tape.record([y], [x, weight], () => {
    const dy = grouped(gradOf(y));
    const none = { dx: false, dweight: false };
    tape.into(x, (dx, accumulate) => engine.rmsNormBackward(grouped(dx), undefined, dy, grouped(x), weight, eps, { ...none, dx: accumulate }, offset));
    tape.into(weight, (dweight, accumulate) => engine.rmsNormBackward(undefined, dweight, dy, grouped(x), weight, eps, { ...none, dweight: accumulate }, offset));
  });
  return y;
}

/** LayerNorm (Ba et al. 2016, arXiv 1607.06450) over the last dimension; the bias is optional. */
export function layerNorm(tape: Tape, x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor {
  const { engine } = tape;
  check(
    x.cols === weight.size && (bias === undefined || x.cols === bias.size),
    "ERR_SWITCHYARD_SHAPE",
    () => `layerNorm: expected weight and bias of ${x.cols} elements, got ${weight} and ${bias}`,
  );
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
