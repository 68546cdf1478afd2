/** Cases of the ops on matrices, row by row and element by element. */
import type { Activation, BinaryFn, GluOptions } from "../src/engine/engine.js";
import { sizeOf, type Tensor } from "../src/tensor/tensor.js";
import type { Maker, OpCase } from "./op-maker.js";

const activations: readonly Activation[] = ["silu", "gelu", "gelu-tanh", "quick-gelu", "relu", "relu2"];
const binaryFns: readonly BinaryFn[] = ["add", "sub", "mul", "div"];

export function matrixCases(rows: number, cols: number): OpCase[] {
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
