import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * losses[T] = -log softmax(logits[T,V])[targets]; a negative target gives 0 and no gradient.
 * The backward pass writes the gradient over the logits, which no other op may read after it.
 */
export function crossEntropy(tape: Tape, logits: Tensor, targets: Tensor): Tensor {
  const { engine } = tape;
  check(
    targets.dtype === "i32" && targets.size === logits.rows,
    "ERR_SWITCHYARD_SHAPE",
    () => `crossEntropy: expected one i32 target per row of ${logits}, got ${targets}`,
  );
  const losses = tape.alloc([logits.rows]);
  engine.crossEntropy(losses, logits, targets);
  tape.record([losses], [logits], () => {
    engine.crossEntropyBackward(logits, gradOf(losses), logits, targets);
    tape.give(logits, logits);
  });
  return losses;
}
