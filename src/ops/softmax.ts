import { gradOf, type Tape } from "../autograd/tape.js";
import type { Tensor } from "../tensor/tensor.js";

/** exp(x) / sum(exp(x)) over the last dimension, in the shape of x. Backward: dx = y (dy - sum(y dy)). */
export function softmax(tape: Tape, x: Tensor): Tensor {
  const { engine } = tape;
  const y = tape.alloc(x.shape);
  engine.softmax(y, x);
  tape.record([y], [x], () => tape.into(x, (dx, accumulate) => engine.softmaxBackward(dx, gradOf(y), y, accumulate)));
  return y;
}

/** log(sum(exp(x))) over the last dimension: x[.., n] -> [rows]. Backward: dx = dy softmax(x). */
export function logSumExp(tape: Tape, x: Tensor): Tensor {
  const { engine } = tape;
  const y = tape.alloc([x.rows]);
  engine.logSumExp(y, x);
  tape.record([y], [x], () => tape.into(x, (dx, accumulate) => engine.logSumExpBackward(dx, gradOf(y), x, accumulate)));
  return y;
}
