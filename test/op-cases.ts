/**
 * Every op of the engine on odd sizes, for the tests that compare engines, ISA variants and thread counts.
 * Outputs start out filled with numbers, so that `accumulate` and rows that must stay untouched are seen.
 */
import { Random } from "../src/tensor/random.js";
import { sizeOf, type Tensor } from "../src/tensor/tensor.js";
import { Arena } from "../src/engine/arena.js";
import type { Activation, AttentionDims, BinaryFn, Engine, GluOptions, MatmulForm, Precision, UnaryFn } from "../src/engine/engine.js";
import { loadEngine } from "../src/engine/load.js";
import { ReferenceEngine } from "../src/engine/reference.js";
import { nativeVariants } from "./engines.js";
import { mixerOpCases } from "./mixer-cases.js";

export const nativeEngines: readonly Engine[] = nativeVariants.map((isa) => loadEngine({ engine: "native", isa, threads: 2 }));
export const engines: readonly Engine[] = [new ReferenceEngine(), ...nativeEngines];

/** Makes the inputs and outputs of a case on one engine; the same numbers on each. */
export class Maker {
  readonly random = new Random(7);
  private readonly arena: Arena;

  constructor(readonly engine: Engine) {
    this.arena = new Arena(engine, 2 ** 20);
  }

  /** Uniform numbers, rounded to f32 so that all engines start alike. */
  floats(shape: readonly number[], low = -2, high = 2): Tensor {
    return this.filled("f", shape, () => Math.fround(low + (high - low) * this.random.float()));
  }

  /** Integers from `low` to `high` - 1. */
  ints(shape: readonly number[], low: number, high: number): Tensor {
    return this.filled("i", shape, () => low + this.random.below(high - low));
  }

  values(kind: "f" | "i", shape: readonly number[], values: readonly number[]): Tensor {
    const t = this.arena.alloc(kind === "i" ? "i32" : this.engine.float, shape);
    this.engine.write(t, values);
    return t;
  }

  /** The same numbers as f16, rounded. */
  halves(x: Tensor): Tensor {
    const t = this.arena.alloc("f16", x.shape);
    this.engine.copy(t, x);
    return t;
  }

  free(): void {
    this.arena[Symbol.dispose]();
  }

  private filled(kind: "f" | "i", shape: readonly number[], next: () => number): Tensor {
    return this.values(kind, shape, Array.from({ length: sizeOf(shape) }, next));
  }
}

export interface OpCase {
  name: string;
  /** Runs the op and gives the tensors to compare. */
  run: (make: Maker) => Tensor[];
}

const activations: readonly Activation[] = ["silu", "gelu", "gelu-tanh", "quick-gelu", "relu", "relu2"];
const unaryFns: readonly UnaryFn[] = ["neg", "exp", "log", "sqrt", "square", "sigmoid", "tanh", "softplus", "relu", "normal-cdf"];
const binaryFns: readonly BinaryFn[] = ["add", "sub", "mul", "div"];
const forms: readonly MatmulForm[] = ["nt", "nn", "tn"];
const precisions: readonly Precision[] = ["f32", "bf16"];

/** Rows x columns: empty, single, odd, and large enough for two threads. */
const matrices: readonly (readonly [number, number])[] = [[0, 8], [1, 3], [3, 7], [5, 33], [130, 97], [67, 512]];

export const smallOpCases: readonly OpCase[] = [
  ...matrices.flatMap(([rows, cols]) => matrixCases(rows, cols)),
  ...[0, 1, 5, 300].flatMap((tokens) => routingCases(tokens)),
  ...[0, 1, 2, 3, 1000, 40_001].flatMap((size) => flatCases(size)),
  ...mixerOpCases,
  { name: "sumSquares of several", run: (make) => [make.values("f", [1], [make.engine.sumSquares([make.floats([3]), make.floats([0]), make.floats([40_000])])])] },
];

function matrixCases(rows: number, cols: number): OpCase[] {
  const shape = [rows, cols];
  const cases: OpCase[] = [];
  const add = (name: string, run: OpCase["run"]): void => {
    cases.push({ name: `${name} [${rows}, ${cols}]`, run });
  };
  for (const accumulate of [false, true]) {
    const flags = { dx: accumulate, dweight: accumulate, dbias: accumulate };
    add(`rmsNormBackward accumulate=${accumulate}`, (make) => {
      const [dx, dweight] = [make.floats(shape), make.floats([cols])];
      make.engine.rmsNormBackward(dx, dweight, make.floats(shape), make.floats(shape), make.floats([cols]), 1e-5, flags);
      return [dx, dweight];
    });
    add(`layerNormBackward accumulate=${accumulate}`, (make) => {
      const [dx, dweight, dbias] = [make.floats(shape), make.floats([cols]), make.floats([cols])];
      make.engine.layerNormBackward(dx, dweight, dbias, make.floats(shape), make.floats(shape), make.floats([cols]), 1e-3, flags);
      return [dx, dweight, dbias];
    });
    for (const over of ["rows", "columns", "all"] as const) {
      add(`sum ${over} accumulate=${accumulate}`, (make) => {
        const out = make.floats([over === "rows" ? rows : over === "columns" ? cols : 1]);
        make.engine.sum(out, make.floats(shape), over, accumulate);
        return [out];
      });
    }
    add(`softmaxBackward accumulate=${accumulate}`, (make) => {
      const [dx, p] = [make.floats(shape), make.floats(shape)];
      make.engine.softmax(p, make.floats(shape));
      make.engine.softmaxBackward(dx, make.floats(shape), p, accumulate);
      return [dx];
    });
    add(`logSumExpBackward accumulate=${accumulate}`, (make) => {
      const dx = make.floats(shape);
      make.engine.logSumExpBackward(dx, make.floats([rows]), make.floats(shape), accumulate);
      return [dx];
    });
  }
  add("rmsNorm", (make) => {
    const out = make.floats(shape);
    make.engine.rmsNorm(out, make.floats(shape), make.floats([cols]), 1e-5);
    return [out];
  });
  add("rmsNormBackward of one gradient", (make) => {
    const [dx, dweight, dout, x, weight] = [make.floats(shape), make.floats([cols]), make.floats(shape), make.floats(shape), make.floats([cols])];
    make.engine.rmsNormBackward(dx, undefined, dout, x, weight, 1e-5, { dx: false, dweight: false });
    make.engine.rmsNormBackward(undefined, dweight, dout, x, weight, 1e-5, { dx: false, dweight: false });
    return [dx, dweight];
  });
  add("rmsNorm with an offset and without a weight", (make) => {
    const [out, plain, dx, dweight, dplain] = [make.floats(shape), make.floats(shape), make.floats(shape), make.floats([cols]), make.floats(shape)];
    const [x, weight, dout] = [make.floats(shape), make.floats([cols]), make.floats(shape)];
    const flags = { dx: false, dweight: false };
    make.engine.rmsNorm(out, x, weight, 1e-5, 1);
    make.engine.rmsNorm(plain, x, undefined, 1e-5);
    make.engine.rmsNormBackward(dx, dweight, dout, x, weight, 1e-5, flags, 1);
    make.engine.rmsNormBackward(dplain, undefined, dout, x, undefined, 1e-5, flags);
    return [out, plain, dx, dweight, dplain];
  });
  for (const biased of [false, true]) {
    add(`layerNorm bias=${biased}`, (make) => {
      const out = make.floats(shape);
      make.engine.layerNorm(out, make.floats(shape, 1, 9), make.floats([cols]), biased ? make.floats([cols]) : undefined, 1e-3);
      return [out];
    });
  }
  for (const [name, x] of [["small", 4], ["large", 200]] as const) {
    add(`softmax ${name}`, (make) => {
      const out = make.floats(shape);
      make.engine.softmax(out, make.floats(shape, -x, x));
      return [out];
    });
    add(`logSumExp ${name}`, (make) => {
      const out = make.floats([rows]);
      make.engine.logSumExp(out, make.floats(shape, -x, x));
      return [out];
    });
    add(`crossEntropy ${name}`, (make) => {
      const [losses, logits, targets] = [make.floats([rows]), make.floats(shape, -x, x), make.ints([rows], -1, cols)];
      make.engine.crossEntropy(losses, logits, targets);
      make.engine.crossEntropyBackward(logits, make.floats([rows]), logits, targets);
      return [losses, logits];
    });
  }
  for (const fn of binaryFns) {
    const others: readonly (readonly number[])[] = [shape, [1], [cols], [rows, 1]];
    for (const other of others) {
      if (sizeOf(other) === 0 && sizeOf(shape) > 0) continue;
      add(`binary ${fn} [${other.join(", ")}]`, (make) => {
        const a = make.floats(shape);
        const out = make.floats(shape);
        const b = make.floats(other, 0.5, 2);
        make.engine.binary(fn, out, a, b);
        make.engine.binary(fn, a, a, b);
        return [out, a];
      });
    }
  }
  add("gatherRows and scatterAddRows", (make) => {
    const [out, table, index] = [make.floats([41, cols]), make.floats([rows + 1, cols]), make.ints([41], -1, rows + 1)];
    make.engine.gatherRows(out, table, index);
    make.engine.scatterAddRows(table, out, index);
    return [out, table];
  });
  for (const activation of activations) {
    for (const gated of [false, true]) {
      for (const routed of [false, true]) {
        add(`glu ${activation} gated=${gated} routed=${routed}`, (make) => glu(make, rows, cols, routed, { activation, gated }));
        const clamped = { activation, gated, limit: 2, upOffset: 1, rowScaleOn: "input" } as const;
        add(`glu ${activation} gated=${gated} routed=${routed}, biased, clamped, scaled first`, (make) => {
          return glu(make, rows, cols, routed, { ...clamped, bias: make.floats([routed ? 2 : 1, gated ? 2 * cols : cols]) });
        });
      }
    }
  }
  if (cols % 8 === 0) {
    const headDim = cols / 4;
    for (const dims of [{}, { inverse: true }, { interleaved: true }, { first: headDim / 2, rotary: headDim / 2 - (headDim / 2) % 2 }, { rotary: 2, interleaved: true, inverse: true }]) {
      add(`rope ${JSON.stringify(dims)}`, (make) => {
        const [x, out] = [make.floats(shape), make.floats(shape)];
        const [table, positions] = [make.floats([9, dims.rotary ?? headDim], -1, 1), make.ints([rows], 0, 9)];
        make.engine.rope(out, x, table, positions, { heads: 4, headDim, ...dims });
        make.engine.rope(x, x, table, positions, { heads: 4, headDim, ...dims });
        return [out, x];
      });
    }
  }
  return cases;
}

function glu(make: Maker, rows: number, cols: number, routed: boolean, how: GluOptions): Tensor[] {
  const width = how.gated ? 2 * cols : cols;
  const x = make.floats([rows, width], -6, 6);
  const out = make.floats([rows, cols]);
  const dx = make.floats([rows, width]);
  const drowScale = routed ? make.floats([rows]) : undefined;
  const options = {
    ...how,
    rowScale: routed ? make.floats([rows], 0, 1) : undefined,
    offsets: routed ? make.values("i", [3], [0, Math.floor(rows / 3), Math.floor((rows * 3) / 4)]) : undefined,
  };
  make.engine.glu(out, x, options);
  make.engine.gluBackward(dx, drowScale, make.floats([rows, cols]), x, options);
  return drowScale === undefined ? [out, dx] : [out, dx, drowScale];
}

function routingCases(tokens: number): OpCase[] {
  const cases: OpCase[] = [];
  const add = (name: string, run: OpCase["run"]): void => {
    cases.push({ name: `${name}, ${tokens} tokens`, run });
  };
  for (const [experts, k] of [[1, 1], [7, 3], [64, 8], [130, 130], [1024, 65]] as const) {
    if (tokens > 5 && experts > 64) continue; // one size that two threads share is enough
    for (const biased of [false, true]) {
      add(`topK ${k} of ${experts} bias=${biased}`, (make) => {
        const indices = make.ints([tokens, k], 0, 1);
        const scores = make.floats([tokens, experts]);
        make.engine.topK(indices, scores, biased ? { bias: make.floats([experts]) } : {});
        return [indices];
      });
    }
    add(`topK ${k} of ${experts} with many ties`, (make) => {
      const indices = make.ints([tokens, k], 0, 1);
      make.engine.topK(indices, make.values("f", [tokens, experts], Array.from({ length: tokens * experts }, () => make.random.below(3) / 4)));
      return [indices];
    });
    add(`columns ${k} of ${experts}`, (make) => {
      const columns = make.ints([tokens, k], -1, experts);
      const [out, x, dx, sum] = [make.floats([tokens, k]), make.floats([tokens, experts]), make.floats([tokens, experts]), make.floats([tokens, experts])];
      make.engine.gatherColumns(out, x, columns);
      make.engine.scatterColumns(dx, out, columns);
      make.engine.scatterColumns(sum, out, columns, true);
      return [out, dx, sum];
    });
    add(`sortByExpert and combineRows ${k} of ${experts}`, (make) => {
      const N = tokens * k;
      const [offsets, slots, order, positions] = [make.ints([experts + 1], 5, 9), make.ints([N], 5, 9), make.ints([N], 5, 9), make.ints([tokens, k], 5, 9)];
      make.engine.sortByExpert(offsets, slots, order, positions, make.ints([tokens, k], -1, experts));
      const [out, y] = [make.floats([tokens, 19]), make.floats([N, 19])];
      make.engine.combineRows(out, y, positions);
      const sum = make.floats([tokens, 19]);
      make.engine.combineRows(sum, y, positions, true);
      return [offsets, slots, order, positions, out, sum];
    });
  }
  for (const score of ["max", "top2sum"] as const) {
    for (const [count, keep, experts, k] of [[4, 2, 16, 3], [8, 4, 256, 8], [5, 1, 15, 4], [6, 6, 6, 2]] as const) {
      add(`topK ${k} of ${experts} in ${keep} of ${count} groups by ${score}`, (make) => {
        const indices = make.ints([tokens, k], 0, 1);
        make.engine.topK(indices, make.floats([tokens, experts]), { bias: make.floats([experts]), groups: { count, keep, score } });
        return [indices];
      });
    }
  }
  return cases;
}

function flatCases(size: number): OpCase[] {
  const cases: OpCase[] = [];
  const add = (name: string, run: OpCase["run"]): void => {
    cases.push({ name: `${name} [${size}]`, run });
  };
  for (const fn of unaryFns) {
    const [low, high] = fn === "log" || fn === "sqrt" ? [0.01, 9] : [-9, 9];
    add(`unary ${fn}`, (make) => {
      const [x, out] = [make.floats([size], low, high), make.floats([size])];
      const [dx, sum, dout] = [make.floats([size]), make.floats([size]), make.floats([size])];
      make.engine.unary(fn, out, x);
      make.engine.unaryBackward(fn, dx, dout, x);
      make.engine.unaryBackward(fn, sum, dout, x, true);
      make.engine.unary(fn, x, x);
      return [out, dx, sum, x];
    });
  }
  add("scale", (make) => {
    const [x, out, sum] = [make.floats([size]), make.floats([size]), make.floats([size])];
    make.engine.scale(out, x, 0.3);
    make.engine.scale(sum, x, -1.7, true);
    make.engine.scale(x, x, 3);
    return [out, sum, x];
  });
  for (const seed of [0, 1, 2 ** 53 - 1]) {
    add(`dropout seed ${seed}`, (make) => {
      const [x, out] = [make.floats([size], 1, 2), make.floats([size])];
      make.engine.dropout(out, x, 0.3, seed);
      return [out];
    });
    add(`uniform seed ${seed}`, (make) => {
      const out = make.floats([size]);
      make.engine.uniform(out, -0.3, 0.7, seed);
      return [out];
    });
    add(`normal seed ${seed}`, (make) => {
      const out = make.floats([size]);
      make.engine.normal(out, 0.02, seed);
      return [out];
    });
  }
  add("adamW", (make) => {
    const [param, m, v] = [make.floats([size]), make.floats([size]), make.floats([size], 0, 1)];
    for (const step of [1, 2]) {
      make.engine.adamW(param, make.floats([size]), m, v, { learningRate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, step, gradScale: 0.5 });
    }
    return [param, m, v];
  });
  add("sumSquares", (make) => [make.values("f", [1], [make.engine.sumSquares([make.floats([size])])])]);
  return cases;
}

/** Ops that multiply matrices. */
export const matrixOpCases: readonly OpCase[] = [
  ...([[0, 5, 3], [1, 1, 1], [1, 70, 33], [5, 3, 9], [37, 50, 65], [130, 64, 100]] as const).flatMap(([M, N, K]) => matmulCases(M, N, K)),
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
      const { valueDim = headDim } = how;
      const [rows, cache] = [batch * queries, batch * dims.keyStride];
      const [q, k, v] = [make.floats([rows, heads * headDim]), make.floats([cache, kvHeads * headDim]), make.floats([cache, kvHeads * valueDim])];
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
