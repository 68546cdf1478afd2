import type { Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { typedArray } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";

/** Parameters of a lightning attention with decays of its own: slopes [H], ofQuery and ofKey [H, block], within [H * block, block]. */
interface DecayTables {
  slopes: Tensor;
  ofQuery: Tensor;
  ofKey: Tensor;
  within: Tensor;
}

/**
 * The next `length` tokens of a sequence, from the beginning of a block on. `state` [H, headDim, headDim] is that before this block, and becomes that after
 * the last complete block, with which the next call begins; without it the sequence is at its start and is not continued.
 */
export interface BlockedSequence {
  length: number;
  state?: Tensor | undefined;
}

/**
 * Lightning attention by the decays that a checkpoint holds, whatever they are, as its reference computes it: block by block,
 * out_i = sum over the block's j, later ones too, of within_ij (q_i k_j) v_j + ofQuery_i S^T q_i; then
 * S = exp(-slope n) S + sum of ofKey_j k_j v_j^T over the block's n tokens.
 * qkv [T, 3 * heads * headDim]. In f64, but for S, which is rounded to what a cache keeps of it; without a backward pass.
 */
export function attendByTables(tape: Tape, qkv: Tensor, sequences: readonly BlockedSequence[], tables: DecayTables, { heads, headDim: d, block }: { heads: number; headDim: number; block: number }): Tensor {
  check(!tape.recording || !qkv.requiresGrad, "ERR_SWITCHYARD_UNSUPPORTED", () => "lightning attention by tables: has no backward pass, so a model with such layers can be run but not trained");
  const { engine } = tape;
  const slopes = engine.read(tables.slopes);
  const [ofQuery, ofKey] = [engine.read(tables.ofQuery), engine.read(tables.ofKey)];
  const within = engine.read(tables.within);
  const X = engine.read(qkv);
  const wide = heads * d;
  const out = new Float64Array(qkv.rows * wide);
  let first = 0;
  for (const { length, state: kept } of sequences) {
    const states = kept === undefined ? typedArray(engine.float, heads * d * d) : engine.read(kept);
    for (let h = 0; h < heads; h++) {
      const state = states.subarray(h * d * d, (h + 1) * d * d);
      for (let start = 0; start < length; start += block) {
        const n = Math.min(block, length - start);
        const part = (i: number, which: 0 | 1 | 2) => {
          const at = ((first + start + i) * 3 + which) * wide + h * d;
          return X.subarray(at, at + d);
        };
        for (let i = 0; i < n; i++) {
          const q = part(i, 0);
          const at = (first + start + i) * wide + h * d;
          const o = out.subarray(at, at + d);
          for (let j = 0; j < n; j++) {
            const k = part(j, 1);
            let dot = 0;
            for (let a = 0; a < d; a++) dot += q[a] * k[a];
            addTo(o, part(j, 2), dot * within[(h * block + i) * block + j]);
          }
          for (let a = 0; a < d; a++) addTo(o, state.subarray(a * d, (a + 1) * d), q[a] * ofQuery[h * block + i]);
        }
        if (n < block) break;
        const decay = Math.exp(-slopes[h] * n);
        const next = Float64Array.from(state, (x) => x * decay);
        for (let j = 0; j < n; j++) {
          const k = part(j, 1);
          for (let a = 0; a < d; a++) addTo(next.subarray(a * d, (a + 1) * d), part(j, 2), k[a] * ofKey[h * block + j]);
        }
        state.set(next);
      }
    }
    if (kept !== undefined) engine.write(kept, states);
    first += length;
  }
  return tape.constant([qkv.rows, wide], out);
}

function addTo(sum: Float64Array, x: ArrayLike<number>, factor: number): void {
  for (let i = 0; i < sum.length; i++) sum[i] += factor * x[i];
}
