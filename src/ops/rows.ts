import { gradOf, type Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import { checkInference } from "./frozen.js";

/** y[M,D] = table[rows[m]]; a negative row gives zeros. Backward: scatter-add into the table. rows i32 [M]. For inference the table may be of a stored type. */
export function gatherRows(tape: Tape, table: Tensor, rows: Tensor): Tensor {
  const { engine } = tape;
  check(rows.dtype === "i32", "ERR_SWITCHYARD_DTYPE", () => `gatherRows: expected i32 row numbers, got ${rows}`);
  checkInference("gatherRows", tape, undefined, [table]);
  const y = tape.alloc([rows.size, table.cols]);
  engine.gatherRows(y, table, rows);
  tape.record([y], [table], () => {
    tape.into(table, (dtable, accumulate) => {
      if (!accumulate) engine.fill(dtable, 0);
      engine.scatterAddRows(dtable, gradOf(y), rows);
    });
  });
  return y;
}
