import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { sizeOf, type Tensor, view } from "../tensor/tensor.js";

/** The same elements seen as `shape`; shares memory with x. */
export function reshape(tape: Tape, x: Tensor, shape: readonly number[]): Tensor {
  check(sizeOf(shape) === x.size, "ERR_SWITCHYARD_SHAPE", () => `reshape: ${x} has ${x.size} elements, [${shape.join(", ")}] needs ${sizeOf(shape)}`);
  const y = view(x, shape);
  tape.record([y], [x], () => tape.into(x, (dx, accumulate) => tape.engine.scale(dx, view(gradOf(y), x.shape), 1, accumulate)));
  return y;
}
