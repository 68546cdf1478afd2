import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/** Which rows belong to which expert; made once per layer by `moe/plan.ts` and read by everything after it. */
export interface RowGroups {
  /** i32 [E+1]: expert e owns sorted rows [offsets[e], offsets[e+1]). */
  offsets: Tensor;
  /** i32 [N]: sorted row -> token. */
  tokens: Tensor;
  /** i32 [T,K]: slot -> sorted row, or -1 when the slot was dropped. */
  positions: Tensor;
}

function checkGroups(op: string, x: Tensor, w: Tensor, columns: number, groups: RowGroups): void {
  check(
    w.shape.length === 3 && x.cols === columns && groups.offsets.size === (w.shape[0] as number) + 1,
    "ERR_SWITCHYARD_SHAPE",
    () => `${op}: ${x} and expert weights ${w} do not fit together with ${groups.offsets.size - 1} groups; expected the last dimensions to be equal`,
  );
}

/**
 * The first product of all experts in one call: y[N,F] = x[token of row, D] w[expert of row, F, D]^T, rows gathered inside.
 * Backward: dx[T,D] sums dy w over the token's rows, dw[E,F,D] = dy^T x per expert.
 */
export function expertsIn(tape: Tape, x: Tensor, w: Tensor, groups: RowGroups): Tensor {
  const { engine, precision } = tape;
  const { offsets, tokens, positions } = groups;
  const [, f = 0, d = 0] = w.shape;
  checkGroups("expertsIn", x, w, d, groups);
  const n = tokens.size;
  const y = tape.alloc([n, f]);
  engine.groupedMatmul("nt", y, x, w, offsets, { rowsA: tokens, precision });
  tape.flops += 2 * n * f * d;
  tape.record([y], [x, w], () => {
    const dy = gradOf(y);
    tape.into(x, (dx, accumulate) => {
      const rows = tape.alloc([n, d]);
      engine.groupedMatmul("nn", rows, dy, w, offsets, { precision });
      engine.combineRows(dx, rows, positions, accumulate);
      tape.arena.release(rows);
    });
    tape.into(w, (dw, accumulate) => engine.groupedMatmul("tn", dw, dy, x, offsets, { rowsB: tokens, precision, accumulate }));
    tape.flops += 4 * n * f * d;
  });
  return y;
}

/**
 * The last product of all experts, summed over each token's rows: out[T,D] = sum over its rows n of h[n,F] w[expert of n, D, F]^T.
 * The router's weights are already in h (decision 0003), so the products themselves are not kept.
 */
export function expertsOut(tape: Tape, h: Tensor, w: Tensor, groups: RowGroups): Tensor {
  const { engine, precision } = tape;
  const { offsets, tokens, positions } = groups;
  const [, d = 0, f = 0] = w.shape;
  checkGroups("expertsOut", h, w, f, groups);
  const n = tokens.size;
  const rows = tape.alloc([n, d]);
  engine.groupedMatmul("nt", rows, h, w, offsets, { precision });
  const out = tape.alloc([positions.shape[0] as number, d]);
  engine.combineRows(out, rows, positions);
  tape.arena.release(rows);
  tape.flops += 2 * n * f * d;
  tape.record([out], [h, w], () => {
    const dout = gradOf(out);
    tape.into(h, (dh) => engine.groupedMatmul("nn", dh, dout, w, offsets, { rowsA: tokens, precision }));
    tape.into(w, (dw, accumulate) => engine.groupedMatmul("tn", dw, dout, h, offsets, { rowsA: tokens, precision, accumulate }));
    tape.flops += 4 * n * f * d;
  });
  return out;
}
