import type { Tape } from "../autograd/tape.js";
import type { ExpertMatrices } from "../engine/engine.js";
import { check } from "../errors.js";
import { isStored } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Weights of a stored type, and those that lie in several tensors, are for inference: throws ERR_SWITCHYARD_DTYPE where the tape would have
 * to compute a gradient through them.
 */
export function checkInference(op: string, tape: Tape, x: Tensor | undefined, weights: readonly ExpertMatrices[]): void {
  if (!tape.recording) return;
  const tensors = weights.flat() as Tensor[];
  const frozen = tensors.length > 1 || tensors.some((w) => isStored(w.dtype));
  check(
    !frozen || !(x?.requiresGrad === true || tensors.some((w) => w.requiresGrad)),
    "ERR_SWITCHYARD_DTYPE",
    () => `${op}: no gradient passes through weights ${tensors[0]} as a file stores them; load the model with f32 weights to train it`,
  );
}
