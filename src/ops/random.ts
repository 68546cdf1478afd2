import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/** Dropout (Srivastava et al. 2014), in training only; the mask is recomputed from its seed in the backward pass. */
export function dropout(tape: Tape, x: Tensor, rate: number): Tensor {
  check(rate >= 0 && rate < 1, "ERR_SWITCHYARD_CONFIG", () => `dropout: expected a rate in [0, 1), got ${rate}`);
  if (!tape.training || rate === 0) return x;
  const { engine } = tape;
  const seed = tape.nextSeed();
  const y = tape.alloc(x.shape);
  engine.dropout(y, x, rate, seed);
  tape.record([y], [x], () => tape.overwrite([x], ([dx]) => engine.dropout(dx, gradOf(y), rate, seed)));
  return y;
}

/** Constants uniform in [low, high), drawn from the tape's seed, others at every call. */
export function uniform(tape: Tape, shape: readonly number[], low: number, high: number): Tensor {
  const y = tape.alloc(shape);
  tape.engine.uniform(y, low, high, tape.nextSeed());
  return y;
}

/** Normal constants with mean 0 and standard deviation `std`, drawn from the tape's seed, others at every call. */
export function normal(tape: Tape, shape: readonly number[], std = 1): Tensor {
  const y = tape.alloc(shape);
  tape.engine.normal(y, std, tape.nextSeed());
  return y;
}
