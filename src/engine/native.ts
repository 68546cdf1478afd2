import type { Tensor } from "../tensor/tensor.js";
import { spreadSteps } from "./broadcast.js";
import type { Activation, AdamWOptions, BinaryFn, CombineOptions, Engine, GluOptions, GroupLimit, RopeDims, UnaryFn } from "./engine.js";
import { delay } from "./late-updates.js";
import { address, storedTypes } from "./native-memory.js";
import { NativeMixers } from "./native-mixers.js";

// In the order of the enumerators of native/kernels/ops.h.
const activations: readonly Activation[] = ["silu", "gelu", "gelu-tanh", "quick-gelu", "relu", "relu2"];
const unaryFns: readonly UnaryFn[] = ["neg", "exp", "log", "sqrt", "square", "sigmoid", "tanh", "softplus", "relu", "normal-cdf"];
const binaryFns: readonly BinaryFn[] = ["add", "sub", "mul", "div"];
const sumOver = ["rows", "columns", "all"] as const;

/** The native engine: every op is one call into the addon. */
export class NativeEngine extends NativeMixers implements Engine {
  rmsNorm(out: Tensor, x: Tensor, weight: Tensor | undefined, eps: number, offset = 0): void {
    this.addon.norm(this.variant, address(out), address(x), address(weight), 0, x.rows, x.cols, 0, eps, offset);
  }

  rmsNormBackward(
    dx: Tensor | undefined, dweight: Tensor | undefined,
    dout: Tensor, x: Tensor, weight: Tensor | undefined, eps: number, accumulate: { dx: boolean; dweight: boolean }, offset = 0,
  ): void {
    this.addon.normBackward(
      this.variant, address(dx), address(dweight), 0, address(dout), address(x), address(weight), x.rows, x.cols, 0, eps, offset,
      Number(accumulate.dx), Number(accumulate.dweight), 0,
    );
  }

  layerNorm(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): void {
    this.addon.norm(this.variant, address(out), address(x), address(weight), address(bias), x.rows, x.cols, 1, eps, 0);
  }

  layerNormBackward(
    dx: Tensor | undefined, dweight: Tensor | undefined, dbias: Tensor | undefined,
    dout: Tensor, x: Tensor, weight: Tensor, eps: number, accumulate: { dx: boolean; dweight: boolean; dbias: boolean },
  ): void {
    this.addon.normBackward(
      this.variant, address(dx), address(dweight), address(dbias), address(dout), address(x), address(weight), x.rows, x.cols, 1, eps, 0,
      Number(accumulate.dx), Number(accumulate.dweight), Number(accumulate.dbias),
    );
  }

  rope(out: Tensor, x: Tensor, table: Tensor, positions: Tensor, dims: RopeDims): void {
    const { heads, headDim, first = 0, rotary = headDim, interleaved = false, inverse = false } = dims;
    this.addon.rope(
      this.variant, address(out), address(x), address(table), address(positions), positions.size, table.rows,
      heads, headDim, first, rotary, Number(interleaved), Number(inverse),
    );
  }

  glu(out: Tensor, x: Tensor, options: GluOptions): void {
    this.addon.glu(this.variant, address(out), ...gluNumbers(out, x, options));
  }

  gluBackward(dx: Tensor, drowScale: Tensor | undefined, dout: Tensor, x: Tensor, options: GluOptions): void {
    this.addon.gluBackward(this.variant, address(dx), address(drowScale), address(dout), ...gluNumbers(dout, x, options));
  }

  gatherRows(out: Tensor, table: Tensor, rows: Tensor): void {
    this.addon.gatherRows(this.variant, address(out), address(table), address(rows), rows.size, table.cols, table.rows, storedTypes.indexOf(table.dtype));
  }

  scatterAddRows(dtable: Tensor, dout: Tensor, rows: Tensor): void {
    this.addon.scatterAddRows(this.variant, address(dtable), address(dout), address(rows), rows.size, dtable.cols, dtable.rows);
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor): void {
    this.addon.crossEntropy(this.variant, address(losses), address(logits), address(targets), logits.rows, logits.cols);
  }

  crossEntropyBackward(dlogits: Tensor, dlosses: Tensor, logits: Tensor, targets: Tensor): void {
    this.addon.crossEntropyBackward(this.variant, address(dlogits), address(dlosses), address(logits), address(targets), logits.rows, logits.cols);
  }

  topK(indices: Tensor, scores: Tensor, options: { bias?: Tensor | undefined; groups?: GroupLimit | undefined } = {}): void {
    const { bias, groups } = options;
    this.addon.topK(
      this.variant, address(indices), address(scores), address(bias), scores.rows, scores.cols, indices.cols,
      groups?.count ?? 0, groups?.keep ?? 0, Number(groups?.score === "top2sum"),
    );
  }

  gatherColumns(out: Tensor, x: Tensor, columns: Tensor): void {
    this.addon.gatherColumns(this.variant, address(out), address(x), address(columns), columns.rows, columns.cols, x.cols);
  }

  scatterColumns(dx: Tensor, dout: Tensor, columns: Tensor, accumulate = false): void {
    this.addon.scatterColumns(this.variant, address(dx), address(dout), address(columns), columns.rows, columns.cols, dx.cols, Number(accumulate));
  }

  sortByExpert(offsets: Tensor, slots: Tensor, tokens: Tensor, positions: Tensor, experts: Tensor): void {
    this.addon.sortByExpert(
      this.variant, address(offsets), address(slots), address(tokens), address(positions), address(experts),
      experts.rows, experts.cols, offsets.size - 1, slots.size,
    );
  }

  combineRows(out: Tensor, y: Tensor, positions: Tensor, { accumulate = false, weights }: CombineOptions = {}): void {
    const [tokens, k] = [positions.rows, positions.cols];
    this.addon.combineRows(this.variant, address(out), address(y), address(positions), tokens, k, out.cols, y.rows, Number(accumulate), address(weights));
  }

  unary(fn: UnaryFn, out: Tensor, x: Tensor): void {
    this.addon.unary(this.variant, unaryFns.indexOf(fn), address(out), address(x), x.size);
  }

  unaryBackward(fn: UnaryFn, dx: Tensor, dout: Tensor, x: Tensor, accumulate = false): void {
    this.addon.unaryBackward(this.variant, unaryFns.indexOf(fn), address(dx), address(dout), address(x), x.size, Number(accumulate));
  }

  binary(fn: BinaryFn, out: Tensor, a: Tensor, b: Tensor): void {
    const step = spreadSteps(a, b);
    this.addon.binary(this.variant, binaryFns.indexOf(fn), address(out), address(a), address(b), a.rows, a.cols, b.size, step.row, step.column);
  }

  scale(out: Tensor, x: Tensor, factor: number, accumulate = false): void {
    this.addon.scale(this.variant, address(out), address(x), factor, x.size, Number(accumulate));
  }

  sum(out: Tensor, x: Tensor, over: "rows" | "columns" | "all", accumulate = false): void {
    this.addon.sum(this.variant, sumOver.indexOf(over), address(out), address(x), x.rows, x.cols, Number(accumulate));
  }

  softmax(out: Tensor, x: Tensor): void {
    this.addon.softmax(this.variant, address(out), address(x), x.rows, x.cols);
  }

  softmaxBackward(dx: Tensor, dout: Tensor, out: Tensor, accumulate = false): void {
    this.addon.softmaxBackward(this.variant, address(dx), address(dout), address(out), out.rows, out.cols, Number(accumulate));
  }

  logSumExp(out: Tensor, x: Tensor): void {
    this.addon.logSumExp(this.variant, address(out), address(x), x.rows, x.cols);
  }

  logSumExpBackward(dx: Tensor, dout: Tensor, x: Tensor, accumulate = false): void {
    this.addon.logSumExpBackward(this.variant, address(dx), address(dout), address(x), x.rows, x.cols, Number(accumulate));
  }

  dropout(out: Tensor, x: Tensor, rate: number, seed: number): void {
    this.addon.dropout(this.variant, address(out), address(x), x.size, rate, seed);
  }

  uniform(out: Tensor, low: number, high: number, seed: number): void {
    this.addon.uniform(this.variant, address(out), out.size, low, high, seed);
  }

  normal(out: Tensor, std: number, seed: number): void {
    this.addon.normal(this.variant, address(out), out.size, std, seed);
  }

  adamW(param: Tensor, grad: Tensor, m: Tensor, v: Tensor, o: AdamWOptions): void {
    const tensors = [param, grad, m, v];
    const numbers = [...tensors.map(address), param.size, o.learningRate, o.beta1, o.beta2, o.eps, o.weightDecay, o.step, o.gradScale];
    const run = () => this.addon.adamW(this.variant, ...numbers);
    if (param.shape.length === 3) delay({ tensors, numbers, run });
    else run();
  }

  sumSquares(x: Tensor): number {
    return this.addon.sumSquares(this.variant, address(x), x.size);
  }
}

function gluNumbers(out: Tensor, x: Tensor, options: GluOptions): number[] {
  const { activation, gated, rowScale, rowScaleOn, offsets, bias, limit = Infinity, upOffset = 0 } = options;
  const groups = offsets === undefined ? 0 : offsets.size - 1;
  const rows = [address(x), address(rowScale), address(offsets), groups, out.rows, out.cols];
  return [...rows, activations.indexOf(activation), Number(gated), Number(rowScaleOn === "input"), limit, upOffset, address(bias)];
}
