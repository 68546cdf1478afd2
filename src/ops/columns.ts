import { gradOf, type Tape } from "../autograd/tape.js";
import type { GroupLimit } from "../engine/engine.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

export interface TopKOptions {
  /** [E], added for the choice only. */
  bias?: Tensor | undefined;
  groups?: GroupLimit | undefined;
}

/** Columns of the k largest of scores[T,E], best first, ties to the lower column: i32 [T,k]. Not differentiable. Throws ERR_SWITCHYARD_CONFIG. */
export function topK(tape: Tape, scores: Tensor, k: number, options: TopKOptions = {}): Tensor {
  const e = scores.cols;
  check(Number.isInteger(k) && k >= 1 && k <= e, "ERR_SWITCHYARD_CONFIG", () => `topK: expected k between 1 and the number of experts, ${e}, got ${k}`);
  const { groups } = options;
  check(
    groups === undefined || (e % groups.count === 0 && groups.keep >= 1 && groups.keep <= groups.count && (e / groups.count) * groups.keep >= k),
    "ERR_SWITCHYARD_CONFIG",
    () => `topK: keeping ${groups?.keep} of ${groups?.count} groups of ${e} experts cannot give ${k} experts; make ${e} divisible by the groups and keep more of them`,
  );
  const indices = tape.alloc([scores.rows, k], "i32");
  tape.engine.topK(indices, scores, options);
  return indices;
}

/** out[t,k] = x[t, columns[t,k]]; a negative column gives 0. Backward: scatter into the columns. */
export function gatherColumns(tape: Tape, x: Tensor, columns: Tensor): Tensor {
  const { engine } = tape;
  check(columns.dtype === "i32", "ERR_SWITCHYARD_DTYPE", () => `gatherColumns: expected i32 columns, as topK gives them, got ${columns}`);
  check(columns.rows === x.rows, "ERR_SWITCHYARD_SHAPE", () => `gatherColumns: expected one row of columns per row of ${x}, got ${columns}`);
  const y = tape.alloc(columns.shape);
  engine.gatherColumns(y, x, columns);
  tape.record([y], [x], () => tape.into(x, (dx, accumulate) => engine.scatterColumns(dx, gradOf(y), columns, accumulate)));
  return y;
}

/** out[t, columns[t,k]] = x[t,k] in rows of `width` elements, 0 elsewhere; a negative column gives nothing. Backward: gather from the columns. */
export function scatterColumns(tape: Tape, x: Tensor, columns: Tensor, width: number): Tensor {
  const { engine } = tape;
  check(columns.size === x.size, "ERR_SWITCHYARD_SHAPE", () => `scatterColumns: expected one column per element of ${x}, got ${columns}`);
  const y = tape.alloc([x.rows, width]);
  engine.scatterColumns(y, x, columns);
  tape.record([y], [x], () => tape.overwrite([x], ([dx]) => engine.gatherColumns(dx, gradOf(y), columns)));
  return y;
}
