import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/** How b spreads over a: elementwise, one element, one row over all rows, or one column over all columns. Throws ERR_SWITCHYARD_SHAPE. */
export function spread(a: Tensor, b: Tensor): "same" | "all" | "columns" | "rows" {
  if (b.size === a.size) return "same";
  if (b.size === 1) return "all";
  if (b.size === a.cols && b.cols === a.cols) return "columns";
  check(b.size === a.rows && b.cols === 1, "ERR_SWITCHYARD_SHAPE", () => `binary: ${b} cannot be spread over ${a}; expected its shape, one element, a row [${a.cols}] or a column [${a.rows}, 1]`);
  return "rows";
}

/** How far b advances per row and per column of a. */
export function spreadSteps(a: Tensor, b: Tensor): { row: number; column: number } {
  const over = spread(a, b);
  return { row: over === "same" ? a.cols : over === "rows" ? 1 : 0, column: over === "same" || over === "columns" ? 1 : 0 };
}
