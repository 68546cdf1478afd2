import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { checkShape, type Tensor } from "../tensor/tensor.js";

/**
 * y[.., N] = x[.., D] w[N, D]^T (+ bias[N]).
 * Backward: dx = dy w, dw = dy^T x, dbias = column sums of dy. FLOPs: 2 * rows * N * D, twice that backward.
 */
export function linear(tape: Tape, x: Tensor, w: Tensor, bias?: Tensor, precision = tape.precision): Tensor {
  const { engine } = tape;
  const [n = 0, d = 0] = w.shape;
  check(w.shape.length === 2 && x.cols === d, "ERR_SWITCHYARD_SHAPE", () => `linear: ${x} cannot be multiplied by a weight ${w}; its last dimension must be ${d}`);
  if (bias !== undefined) checkShape("linear", "bias", bias, [n]);
  const y = tape.alloc([...x.shape.slice(0, -1), n]);
  engine.matmul("nt", y, x, w, { precision });
  if (bias !== undefined) engine.binary("add", y, y, bias);
  const flops = 2 * x.rows * n * d;
  tape.flops += flops;
  tape.record([y], [x, w, bias], () => {
    const dy = gradOf(y);
    tape.into(x, (dx, accumulate) => engine.matmul("nn", dx, dy, w, { precision, accumulate }));
    tape.into(w, (dw, accumulate) => engine.matmul("tn", dw, dy, x, { precision, accumulate }));
    tape.into(bias, (db, accumulate) => engine.sum(db, dy, "columns", accumulate));
    tape.flops += flops * ((x.requiresGrad ? 1 : 0) + (w.requiresGrad ? 1 : 0));
  });
  return y;
}
