import type { Tape } from "../autograd/tape.js";
import type { MixedSequences } from "../ops/index.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { Sequences } from "./sequences.js";

/**
 * Runs a recurrence over the new rows of every sequence: at once where all start here, else one by one, each on state number `i` of layer
 * `l` that its cache keeps. Every one of `inputs` has the rows [T, ..] of all sequences.
 */
export function overSequences(tape: Tape, { batch }: Sequences, l: number, i: number, inputs: readonly Tensor[], run: (rows: Tensor[], sequences: MixedSequences) => Tensor): Tensor {
  if (typeof batch === "number") return run([...inputs], { batch });
  let row = 0;
  const results = batch.map(({ cache, length }) => {
    const kept = cache.layers[l]?.[i] as Tensor;
    const y = run(inputs.map((t) => view(t, [length, t.cols], row * t.cols)), { batch: 1, state: view(kept, [1, ...kept.shape]) });
    row += length;
    return y;
  });
  const [first] = results as [Tensor];
  if (results.length === 1) return first;
  const out = tape.alloc([row, first.cols]);
  row = 0;
  for (const y of results) {
    tape.engine.copy(view(out, y.shape, row * y.cols), y);
    tape.arena.release(y);
    row += y.rows;
  }
  return out;
}
