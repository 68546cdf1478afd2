import { gradOf, type Tape } from "../autograd/tape.js";
import type { MatmulOptions } from "../engine/engine.js";
import { check } from "../errors.js";
import { checkShape, type Tensor } from "../tensor/tensor.js";
import { checkInference } from "./frozen.js";

/** A linear map [N, D] with a bias [N]. For inference the weight may be of a stored type, or a list of weights whose results stand side by side. */
export interface LinearMap {
  weight: Tensor | readonly Tensor[];
  bias?: Tensor | undefined;
}

const partsOf = ({ weight }: LinearMap): readonly Tensor[] => ("shape" in weight ? [weight] : weight);

/**
 * y[.., N] = x[.., D] w[N, D]^T (+ bias[N]).
 * Backward: dx = dy w, dw = dy^T x, dbias = column sums of dy. FLOPs: 2 * rows * N * D, twice that backward.
 */
export function linear(tape: Tape, x: Tensor, weight: LinearMap["weight"], bias?: Tensor, precision: MatmulOptions["precision"] = tape.precision): Tensor {
  const { engine } = tape;
  const map = { weight, bias };
  const [y] = multiply(tape, x, [map], precision) as [Tensor];
  const [w] = partsOf(map) as [Tensor];
  const flops = 2 * y.size * x.cols;
  tape.record([y], [x, w, bias], () => {
    const dy = gradOf(y);
    tape.into(x, (dx, accumulate) => engine.matmul("nn", dx, dy, w, { precision, accumulate }));
    tape.into(w, (dw, accumulate) => engine.matmul("tn", dw, dy, x, { precision, accumulate }));
    tape.into(bias, (db, accumulate) => engine.sum(db, dy, "columns", accumulate));
    tape.flops += flops * ((x.requiresGrad ? 1 : 0) + (w.requiresGrad ? 1 : 0));
  });
  return y;
}

/** `linear` of one x by several maps; where nothing is recorded, all at once. */
export function linears(tape: Tape, x: Tensor, maps: readonly LinearMap[]): Tensor[] {
  return tape.recording ? maps.map(({ weight, bias }) => linear(tape, x, weight, bias)) : multiply(tape, x, maps, tape.precision);
}

function multiply(tape: Tape, x: Tensor, maps: readonly LinearMap[], precision: MatmulOptions["precision"]): Tensor[] {
  const { engine } = tape;
  const [outs, weights]: [Tensor[], Tensor[]] = [[], []];
  const results = maps.map((map) => {
    const parts = partsOf(map);
    for (const part of parts) {
      check(part.shape.length === 2 && x.cols === part.cols, "ERR_SWITCHYARD_SHAPE", () => `linear: ${x} cannot be multiplied by a weight ${part}; its last dimension must be ${part.cols}`);
    }
    checkInference("linear", tape, x, parts);
    const n = parts.reduce((sum, part) => sum + part.rows, 0);
    if (map.bias !== undefined) checkShape("linear", "bias", map.bias, [n]);
    const y = tape.alloc([...x.shape.slice(0, -1), n]);
    tape.flops += 2 * y.size * x.cols;
    for (const part of parts) {
      outs.push(y);
      weights.push(part);
    }
    return y;
  });
  if (weights.length === 1) engine.matmul("nt", outs[0] as Tensor, x, weights[0] as Tensor, { precision });
  else engine.matmuls(outs, x, weights, { precision });
  maps.forEach(({ bias }, i) => {
    const y = results[i] as Tensor;
    if (bias !== undefined) engine.binary("add", y, y, bias);
  });
  return results;
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
