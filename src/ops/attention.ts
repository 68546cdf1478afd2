import { gradOf, type Tape } from "../autograd/tape.js";
import type { AttentionDims } from "../engine/engine.js";
import { check } from "../errors.js";
import { checkShape, type Tensor } from "../tensor/tensor.js";

/**
 * Causal grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245).
 * q [batch * queries, heads * headDim]; k, v [batch * keyStride, kvHeads * headDim].
 * FLOPs of the two products, causal half only: 2 * batch * queries * keys * heads * headDim (when queries = keys), 2.5 times that backward.
 */
export function attention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, dims: AttentionDims): Tensor {
  const { engine } = tape;
  const { batch, queries, keys, keyStride, heads, kvHeads, headDim } = dims;
  checkShape("attention", "q", q, [batch * queries, heads * headDim]);
  for (const [name, t] of [["k", k], ["v", v]] as const) checkShape("attention", name, t, [batch * keyStride, kvHeads * headDim]);
  check(
    heads % kvHeads === 0 && queries <= keys && keys <= keyStride,
    "ERR_SWITCHYARD_SHAPE",
    () => `attention: expected heads (${heads}) to be a multiple of key/value heads (${kvHeads}) and queries (${queries}) <= keys (${keys}) <= stride (${keyStride})`,
  );
  const out = tape.alloc(q.shape);
  const lse = tape.alloc([batch * queries, heads]);
  engine.attention(out, lse, q, k, v, dims);
  const flops = 4 * batch * heads * headDim * queries * (keys - queries / 2);
  tape.flops += flops;
  tape.record(
    [out],
    [q, k, v],
    () => {
      const [dq, dk, dv] = [tape.borrow(q), tape.borrow(k), tape.borrow(v)];
      engine.attentionBackward(dq, dk, dv, gradOf(out), q, k, v, out, lse, dims);
      tape.flops += 2.5 * flops;
      tape.give(q, dq);
      tape.give(k, dk);
      tape.give(v, dv);
    },
    [lse],
  );
  return out;
}
