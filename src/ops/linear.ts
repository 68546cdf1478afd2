import { gradOf, type Tape } from "../autograd/tape.js";
import type { MatmulOptions } from "../engine/engine.js";
import { check } from "../errors.js";
import { checkShape, type Tensor } from "../tensor/tensor.js";
import { checkInference } from "./frozen.js";

/**
 * y[.., N] = x[.., D] w[N, D]^T (+ bias[N]).
 * For inference w may be of a stored type, or a list of weights whose results stand side by side.
 * Backward: dx = dy w, dw = dy^T x, dbias = column sums of dy. FLOPs: 2 * rows * N * D, twice that backward.
 */
export function linear(tape: Tape, x: Tensor, weight: Tensor | readonly Tensor[], bias?: Tensor, precision: MatmulOptions["precision"] = tape.precision): Tensor {
  const { engine } = tape;
  const parts = "shape" in weight ? [weight] : weight;
  const [w] = parts as [Tensor];
  const d = w.cols;
  for (const part of parts) {
    check(part.shape.length === 2 && x.cols === part.cols, "ERR_SWITCHYARD_SHAPE", () => `linear: ${x} cannot be multiplied by a weight ${part}; its last dimension must be ${part.cols}`);
  }
  checkInference("linear", tape, x, parts);
  const n = parts.reduce((sum, part) => sum + part.rows, 0);
  if (bias !== undefined) checkShape("linear", "bias", bias, [n]);
  const y = tape.alloc([...x.shape.slice(0, -1), n]);
  let column = 0;
  for (const part of parts) {
    engine.matmul("nt", y, x, part, { precision, column });
    column += part.rows;
  }
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

/** y[M, N] = a[M, K] b[K, N]. Backward: da = dy b^T, db = a^T dy. FLOPs: 2 * M * N * K, twice that backward. */
export function matmul(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const { engine, precision } = tape;
  check(a.cols === b.rows && b.shape.length === 2, "ERR_SWITCHYARD_SHAPE", () => `matmul: ${a} cannot be multiplied by ${b}; its last dimension must be ${b.rows}`);
  const y = tape.alloc([a.rows, b.cols]);
  engine.matmul("nn", y, a, b, { precision });
  const flops = 2 * a.size * b.cols;
  tape.flops += flops;
  tape.record([y], [a, b], () => {
    const dy = gradOf(y);
    tape.into(a, (da, accumulate) => engine.matmul("nt", da, dy, b, { precision, accumulate }));
    tape.into(b, (db, accumulate) => engine.matmul("tn", db, a, dy, { precision, accumulate }));
    tape.flops += flops * ((a.requiresGrad ? 1 : 0) + (b.requiresGrad ? 1 : 0));
  });
  return y;
}
