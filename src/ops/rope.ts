import { gradOf, type Tape } from "../autograd/tape.js";
import type { RopeDims } from "../engine/engine.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/** Where the tokens stand. */
export interface RopePlaces {
  /** [positions, rotary]: cosines of the rotary/2 angles, then their sines. */
  table: Tensor;
  /** i32, one per row of x. */
  positions: Tensor;
}

/** Rotary position embedding (Su et al. 2021, arXiv 2104.09864) of the slice of each head that RopeDims names. */
export function rope(tape: Tape, x: Tensor, { table, positions }: RopePlaces, dims: Omit<RopeDims, "inverse">): Tensor {
  const { engine } = tape;
  const { heads, headDim, first = 0, rotary = headDim, interleaved } = dims;
  check(
    x.cols === heads * headDim && positions.size === x.rows && table.cols === rotary && rotary % 2 === 0 && first >= 0 && first + rotary <= headDim,
    "ERR_SWITCHYARD_SHAPE",
    () =>
      `rope: expected ${x} to hold ${heads} heads of ${headDim}, elements [${first}, ${first + rotary}) (an even number) within them, ` +
      `${x.rows} positions and a table [positions, ${rotary}], got ${positions} and ${table}`,
  );
  const y = tape.alloc(x.shape);
  engine.rope(y, x, table, positions, dims);
  // Not `{ ...dims, inverse: true }`, which V8 gives a hidden class of its own each time.
  const back: RopeDims = { heads, headDim, first, rotary, interleaved, inverse: true };
  tape.record([y], [x], () => tape.overwrite([x], ([dx]) => engine.rope(dx, gradOf(y), table, positions, back)));
  return y;
}
