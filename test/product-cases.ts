/** Cases of products: matrices, groups of experts, attention. */
import type { AttentionDims, MatmulForm, Precision } from "../src/engine/engine.js";
import type { Maker, OpCase } from "./op-maker.js";

const forms: readonly MatmulForm[] = ["nt", "nn", "tn"];
const precisions: readonly Precision[] = ["f32", "bf16"];

export const matrixOpCases: readonly OpCase[] = [
  ...([[0, 5, 3], [1, 1, 1], [1, 70, 33], [5, 3, 9], [13, 40, 37], [20, 64, 300], [28, 21, 48], [31, 64, 70], [37, 50, 65], [77, 36, 300], [130, 64, 100]] as const).flatMap(([M, N, K]) => matmulCases(M, N, K)),
  ...([[1, 1, 1, 1], [3, 7, 9, 5], [8, 90, 33, 40]] as const).flatMap(([E, tokens, F, D]) => groupedCases(E, tokens, F, D)),
];

export const attentionOpCases: readonly OpCase[] = [
  ...([[1, 2, 2, 1, 1, 8], [2, 9, 9, 4, 2, 16], [2, 3, 11, 4, 4, 12], [1, 70, 70, 6, 2, 32]] as const).map(
    ([batch, queries, keys, heads, kvHeads, headDim]) => attentionCase(batch, queries, keys, heads, kvHeads, headDim),
  ),
  ...[{ valueDim: 5 }, { valueDim: 24 }, { causal: false }, { window: 2 }, { window: 20 }, { chunk: 32 }, { window: 20, chunk: 16 }].flatMap((how) =>
    [[], ["sinks"], ["bias"], ["sinks", "bias"]].map((extras) => attentionCase(2, 70, 70, 6, 2, 16, how, extras)),
  ),
  attentionCase(2, 40, 7, 4, 2, 16, { causal: false, valueDim: 8 }, ["bias"]),
  attentionCase(1, 3, 0, 2, 1, 8, { causal: false }),
  attentionCase(1, 3, 200, 16, 1, 576, { valueDim: 512, window: 90 }),
  ...[1, 3, 40].map((queries) => attentionCase(2, queries, 150, 12, 1, 72, { valueDim: 37, valueStride: 72 }, ["bias"])),
  ...[1, 2, 3, 4, 5, 6, 7, 8, 16].map((group) => attentionCase(2, 1, 301, 3 * group, 3, 20, { valueDim: 37, window: 290 }, ["sinks", "bias"])),
  attentionCase(1, 1, 1200, 16, 1, 64, { valueDim: 100 }),
];

function matmulCases(M: number, N: number, K: number): OpCase[] {
  return forms.flatMap((form) =>
    precisions.flatMap((precision) =>
      [false, true].map((accumulate) => ({
        name: `matmul ${form} ${precision} accumulate=${accumulate} [${M}, ${N}, ${K}]`,
        run: (make: Maker) => {
          const out = make.floats([M, N]);
          make.engine.matmul(form, out, make.floats(form === "tn" ? [K, M] : [M, K]), make.floats(form === "nt" ? [N, K] : [K, N]), { accumulate, precision });
          return [out];
        },
      })),
    ),
  );
}

/** Ragged groups, the second one empty, some rows beyond the last offset. */
function groupedCases(E: number, tokens: number, F: number, D: number): OpCase[] {
  return forms.flatMap((form) =>
    precisions.flatMap((precision) =>
      [false, true].flatMap((accumulate) =>
        [false, true].map((gathered) => ({
          name: `groupedMatmul ${form} ${precision} accumulate=${accumulate} gathered=${gathered} [${E}, ${tokens}, ${F}, ${D}]`,
          run: (make: Maker) => {
            const N = 2 * tokens;
            const experts = Array.from({ length: N - 1 }, () => make.random.below(E)).filter((e) => e !== 1).toSorted((a, b) => a - b);
            const offsets = make.values("i", [E + 1], Array.from({ length: E + 1 }, (_, e) => experts.filter((x) => x < e).length));
            const rows = gathered ? make.values("i", [N], Array.from({ length: N }, (_, n) => (n < experts.length ? make.random.below(tokens) : -1))) : undefined;
            const a = make.floats([gathered ? tokens : N, form === "nt" ? D : F]);
            if (form === "tn") {
              const out = make.floats([E, F, D]);
              make.engine.groupedMatmul(form, out, a, make.floats([N, D]), offsets, { accumulate, precision, rowsA: rows });
              const both = make.floats([E, F, D]);
              make.engine.groupedMatmul(form, both, a, make.floats([gathered ? tokens : N, D]), offsets, { accumulate, precision, rowsA: rows, rowsB: rows });
              return [out, both];
            }
            const out = make.floats([N, form === "nt" ? F : D]);
            make.engine.groupedMatmul(form, out, a, make.floats([E, F, D]), offsets, { accumulate, precision, rowsA: rows });
            return [out];
          },
        })),
      ),
    ),
  );
}

function attentionCase(
  batch: number, queries: number, keys: number, heads: number, kvHeads: number, headDim: number, how: Partial<AttentionDims> = {}, extras: readonly string[] = [],
): OpCase {
  return {
    name: `attention ${[batch, queries, keys, heads, kvHeads, headDim].join(" ")} ${JSON.stringify(how)} ${extras.join(" ")}`,
    run: (make) => {
      const spare = queries === keys || how.causal === false ? 0 : 5;
      const dims = { batch, queries, keys, keyStride: keys + spare, heads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim), ...how };
      const { valueDim = headDim, valueStride = kvHeads * valueDim } = how;
      const [rows, cache] = [batch * queries, batch * dims.keyStride];
      const [q, k, v] = [make.floats([rows, heads * headDim]), make.floats([cache, kvHeads * headDim]), make.floats([cache, valueStride])];
      const [out, lse] = [make.floats([rows, heads * valueDim]), make.floats([rows, heads])];
      const masked = make.values("f", [batch, 1, queries, keys], Array.from({ length: batch * queries * keys }, () => (make.random.below(3) === 0 ? -Infinity : make.random.below(4) / 2)));
      const given = { sinks: extras.includes("sinks") ? make.floats([heads]) : undefined, bias: extras.includes("bias") ? masked : undefined };
      make.engine.attention(out, lse, q, k, v, dims, given);
      if (spare > 0) {
        const [out16, lse16] = [make.floats(out.shape), make.floats(lse.shape)];
        make.engine.attention(out16, lse16, q, make.halves(k), make.halves(v), dims, given);
        return [out, lse, out16, lse16];
      }
      const [dq, dk, dv, dsinks] = [make.floats(q.shape), make.floats(k.shape), make.floats(v.shape), given.sinks && make.floats([heads])];
      make.engine.attentionBackward(dq, dk, dv, dsinks, make.floats(out.shape), q, k, v, out, lse, dims, given);
      return [out, lse, dq, dk, dv, ...(dsinks === undefined ? [] : [dsinks])];
    },
  };
}
