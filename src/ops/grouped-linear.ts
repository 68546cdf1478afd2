import { gradOf, type Tape } from "../autograd/tape.js";
import type { ExpertMatrices } from "../engine/engine.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkInference } from "./frozen.js";

/** Which rows belong to which expert; made once per layer by `moe/plan.ts` and read by everything after it. */
export interface RowGroups {
  /** i32 [E+1]: expert e owns sorted rows [offsets[e], offsets[e+1]). */
  offsets: Tensor;
  /** i32 [N]: sorted row -> token. */
  tokens: Tensor;
  /** i32 [T,K]: slot -> sorted row, or -1 when the slot was dropped. */
  positions: Tensor;
}

/** Columns of the result, once it is clear that the weights fit. */
function resultColumns(op: string, x: Tensor, w: ExpertMatrices, groups: RowGroups): number {
  const list = "shape" in w ? undefined : w;
  const first = "shape" in w ? w : (w[0] as Tensor);
  const [experts, rows, columns] = list ? [list.length, ...first.shape] : first.shape;
  check(
    first.shape.length === (list ? 2 : 3) && x.cols === columns && groups.offsets.size === (experts as number) + 1,
    "ERR_SWITCHYARD_SHAPE",
    () => `${op}: ${x} and expert weights ${first} do not fit together with ${groups.offsets.size - 1} groups; expected the last dimensions to be equal`,
  );
  return rows as number;
}

/** dw = a^T b of each expert's rows, gathered where `rows` say so. */
function weightGradient(tape: Tape, w: Tensor, a: Tensor, b: Tensor, offsets: Tensor, rows: { rowsA?: Tensor; rowsB?: Tensor }): void {
  tape.into(w, (dw, accumulate) => {
    const squares = accumulate ? undefined : w.gradSquares;
    tape.engine.groupedMatmul("tn", dw, a, b, offsets, { precision: tape.precision, accumulate, squares: squares?.sum, ...rows });
    if (squares !== undefined) squares.known = true;
  });
}

/**
 * The first product of all experts in one call: y[N,F] = x[token of row, D] w[expert of row, F, D]^T, rows gathered inside.
 * For inference the weights may be of a stored type or one tensor per expert, and `beside` a second matrix of each expert, whose results
 * stand in the columns after those of `weights`.
 * Backward: dx[T,D] sums dy w over the token's rows, dw[E,F,D] = dy^T x per expert.
 */
export function expertsIn(tape: Tape, x: Tensor, weights: ExpertMatrices, groups: RowGroups, beside?: ExpertMatrices): Tensor {
  const { engine, precision } = tape;
  const { offsets, tokens, positions } = groups;
  const f = resultColumns("expertsIn", x, weights, groups) + (beside === undefined ? 0 : resultColumns("expertsIn", x, beside, groups));
  checkInference("expertsIn", tape, x, beside === undefined ? [weights] : [weights, beside]);
  const [n, d] = [tokens.size, x.cols];
  const y = tape.alloc([n, f]);
  engine.groupedMatmul("nt", y, x, weights, offsets, { rowsA: tokens, precision, beside });
  tape.flops += 2 * n * f * d;
  if (!tape.recording) return y;
  const w = weights as Tensor;
  tape.record([y], [x, w], () => {
    const dy = gradOf(y);
    tape.into(x, (dx, accumulate) => {
      const rows = tape.alloc([n, d]);
      engine.groupedMatmul("nn", rows, dy, w, offsets, { precision });
      engine.combineRows(dx, rows, positions, { accumulate });
      tape.arena.release(rows);
    });
    weightGradient(tape, w, dy, x, offsets, { rowsB: tokens });
    tape.flops += 4 * n * f * d;
  });
  return y;
}

/**
 * The last product of all experts, summed over each token's rows: out[T,D] = sum over its rows n of h[n,F] w[expert of n, D, F]^T.
 * The router's weights are in h (decision 0003), so that the products themselves are not kept, or `shares` [T,K]. For inference the weights may be of a
 * stored type or one tensor per expert.
 */
export function expertsOut(tape: Tape, h: Tensor, weights: ExpertMatrices, groups: RowGroups, shares?: Tensor): Tensor {
  const { engine, precision } = tape;
  const { offsets, tokens, positions } = groups;
  const d = resultColumns("expertsOut", h, weights, groups);
  checkInference("expertsOut", tape, h, [weights]);
  const [n, f] = [tokens.size, h.cols];
  const rows = tape.alloc([n, d]);
  engine.groupedMatmul("nt", rows, h, weights, offsets, { precision });
  const out = tape.alloc([positions.shape[0] as number, d]);
  engine.combineRows(out, rows, positions, { weights: shares });
  tape.arena.release(rows);
  tape.flops += 2 * n * f * d;
  if (!tape.recording) return out;
  const w = weights as Tensor;
  tape.record([out], [h, w], () => {
    const dout = gradOf(out);
    tape.into(h, (dh, accumulate) => engine.groupedMatmul("nn", dh, dout, w, offsets, { rowsA: tokens, precision, accumulate }));
    weightGradient(tape, w, dout, h, offsets, { rowsA: tokens });
    tape.flops += 4 * n * f * d;
  });
  return out;
}
