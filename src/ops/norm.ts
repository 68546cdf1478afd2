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
    tape.intoAll([x, weight], ([dx, dweight], [addX = false, addWeight = false]) => {
      engine.rmsNormBackward(dx && grouped(dx), dweight, grouped(gradOf(y)), grouped(x), weight, eps, { dx: addX, dweight: addWeight }, offset);
    });
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
  tape.record([y], [x, weight, bias], () => {
    tape.intoAll([x, weight, bias], ([dx, dweight, dbias], [addX = false, addWeight = false, addBias = false]) => {
      engine.layerNormBackward(dx, dweight, dbias, gradOf(y), x, weight, eps, { dx: addX, dweight: addWeight, dbias: addBias });
    });
  });
  return y;
}
