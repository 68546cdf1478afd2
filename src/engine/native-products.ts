import { check } from "../errors.js";
import { LateTensor, type Tensor, view } from "../tensor/tensor.js";
import type { AttentionDims, AttentionExtras, ExpertMatrices, GroupedOptions, MatmulForm, MatmulOptions, MatrixOps } from "./engine.js";
import { everything, settle, takeUpdate } from "./late-updates.js";
import { columnsOf, matricesOf, pairOf, roundsToBf16 } from "./matrix-lists.js";
import { address, fillCode, NativeMemory, storedTypes } from "./native-memory.js";

/** What late matrices are needed of a sparse layer, and likely to be needed of the next. */
export interface Demand {
  /** i32 [E+1]: expert e has rows [offsets[e], offsets[e+1]), and is needed if there are any. */
  offsets: Tensor;
  /** f64 [E]: the addresses of one late matrix of each expert, 0 where it is nowhere. */
  there: Tensor;
  /** i32 [E] for the number of each expert's rows. A first element that is negative asks for `provide` whatever else. */
  rows: Tensor;
  /** Asks for it too. */
  always: boolean;
  /** The first `choices` elements of `likely` (i32) are experts of the next layer that are wanted there. */
  forecast?: { likely: Tensor; choices: number; there: Tensor } | undefined;
}

const formCode: Record<MatmulForm, number> = { nt: 0, nn: 1, tn: 2 };

/** In the place of a second and third product of `matmuls`, or of an update of the experts. */
const none: readonly number[] = new Array<number>(12).fill(0);

/** Matrix products and attention of the native engine. */
export class NativeProducts extends NativeMemory implements MatrixOps {
  matmul(form: MatmulForm, out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    const n = form === "nt" ? b.rows : b.cols;
    const [m, k] = form === "tn" ? [a.cols, a.rows] : [a.rows, a.cols];
    const same = form === "nt" ? b.cols : b.rows;
    const { column = 0 } = options;
    const whole = options.column === undefined;
    check(k === same && (whole ? out.size === m * n : out.rows === m && column >= 0 && column + n <= out.cols), "ERR_SWITCHYARD_SHAPE", () => `matmul ${form}: ${a} and ${b} do not give ${out}`);
    this.addon.matmul(
      this.variant, formCode[form], address(out) + 4 * column, address(a), address(b), m, n, k,
      options.accumulate ? 1 : 0, productCode(form, b, options), whole ? n : out.cols, storedTypes.indexOf(b.dtype),
    );
  }

  matmuls(outs: readonly Tensor[], a: Tensor, bs: readonly Tensor[], options: Pick<MatmulOptions, "precision"> = {}): void {
    const columns = columnsOf(outs, bs);
    const [first] = bs as [Tensor];
    const together = bs.length <= 3 && options.precision !== "f64" && bs.every((b) => b.dtype === first.dtype);
    if (!together) {
      bs.forEach((b, i) => this.matmul("nt", outs[i] as Tensor, a, b, { column: columns[i], ...options }));
      return;
    }
    const numbers = [...none];
    bs.forEach((b, i) => {
      const [out, column] = [outs[i] as Tensor, columns[i] as number];
      check(b.cols === a.cols && out.rows === a.rows && column + b.rows <= out.cols, "ERR_SWITCHYARD_SHAPE", () => `matmuls: ${a} and ${b} do not give columns from ${column} on of ${out}`);
      numbers.splice(4 * i, 4, address(out) + 4 * column, address(b), b.rows, out.cols);
    });
    this.addon.matmuls(this.variant, address(a), a.rows, a.cols, Number(roundsToBf16(first, options)), storedTypes.indexOf(first.dtype), ...numbers);
  }

  groupedMatmul(form: MatmulForm, out: Tensor, a: Tensor, b: ExpertMatrices, offsets: Tensor, options: GroupedOptions = {}): void {
    const { accumulate, rowsA, rowsB, column = 0, beside, squares } = options;
    const pair = beside && pairOf(b, beside);
    if (beside !== undefined && pair === undefined) {
      const matrix = "shape" in b ? b.shape.slice(1) : (b[0] as Tensor).shape;
      this.groupedMatmul(form, out, a, b, offsets, { ...options, column, beside: undefined });
      this.groupedMatmul(form, out, a, beside, offsets, { ...options, column: column + (matrix[0] as number), beside: undefined });
      return;
    }
    const groups = offsets.size - 1;
    const tn = form === "tn";
    const list = "shape" in b ? undefined : b;
    const { runs = [] } = list === undefined ? {} : matricesOf(list);
    if (runs.length > 1 && list?.length === groups) {
      for (const { begin, matrices } of runs) this.groupedMatmul(form, out, a, matrices, view(offsets, [matrices.length + 1], begin), options);
      return;
    }
    const first = "shape" in b ? b : (b[0] as Tensor);
    const matrix = tn ? out.shape : list ? [list.length, ...first.shape] : first.shape; // [E, rows, cols]
    const [m, n, k] = tn ? [a.cols, first.cols, 0] : [0, (form === "nt" ? matrix[1] : matrix[2]) as number, a.cols];
    const lists = pair === undefined ? 1 : 2;
    check(
      matrix.length === 3 && matrix[0] === groups && (tn ? matrix[1] === m && matrix[2] === n : matrix[form === "nt" ? 2 : 1] === k && (options.column === undefined ? out.cols === lists * n : column >= 0 && column + lists * n <= out.cols)) &&
        (list === undefined || (!tn && matricesOf(list).alike)),
      "ERR_SWITCHYARD_SHAPE",
      () => `groupedMatmul ${form}: ${a} and ${list ? `${list.length} matrices like ` : ""}${first} in ${groups} groups do not give ${out}`,
    );
    const rows = rowsA?.size ?? rowsB?.size ?? a.rows;
    check(
      (rowsB?.size ?? rows) === rows && (tn || out.rows >= rows),
      "ERR_SWITCHYARD_SHAPE",
      () => `groupedMatmul ${form}: ${rows} routed rows, but rowsB is ${rowsB} and out is ${out}`,
    );
    if (list) settle(everything);
    const update = form === "nt" && !list ? takeUpdate(first) : undefined; // before its address is taken, which makes it
    const late = first instanceof LateTensor;
    const where = pair ?? (list ? matricesOf(list).addresses : address(first));
    this.addon.groupedMatmul(
      this.variant, formCode[form], address(out) + 4 * column, address(a), late ? ((where as Float64Array)[0] as number) : where, m, n, k,
      accumulate ? 1 : 0, Number(roundsToBf16(first, options)), tn ? n : out.cols, storedTypes.indexOf(first.dtype),
      groups, address(offsets), address(rowsA), address(rowsB), rows, a.rows, tn ? first.rows : 0, lists, ...(update ?? none), address(squares), Number(late),
    );
  }

  /** Late matrices of these types and shapes, whose addresses stand side by side from element `first` of `cells` (f64) on. */
  lateMatrices(cells: Tensor, first: number, matrices: readonly Pick<Tensor, "dtype" | "shape">[]): LateTensor[] {
    return matrices.map(({ dtype, shape }, i) => new LateTensor(dtype, shape, address(view(cells, [1], first + i))));
  }

  /** Says that a late matrix is where `matrix` is, or nowhere. Products wait for the reads of one that is `coming`, until it is placed anew. */
  place(late: LateTensor, matrix: Tensor | undefined, coming = false): void {
    this.addon.fill(this.variant, late.storage as number, 1, coming ? -address(matrix) : address(matrix), fillCode.f64 as number);
  }

  /** Looks, when the ops before have run, whether grouped products can go on: see `Demand`. If not, calls `provide` before they do. */
  demand({ offsets, there, rows, always, forecast }: Demand, provide: () => void): void {
    const { likely, choices = 0, there: thereNext } = forecast ?? {};
    this.commands.demand([this.variant, address(offsets), rows.size, address(there), address(rows), address(likely), choices, address(thereNext), Number(always)], provide);
  }

  attention(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, dims: AttentionDims, extras: AttentionExtras = {}): void {
    this.addon.attention(this.variant, address(out), address(lse), address(q), address(k), address(v), ...attentionNumbers(dims, extras), keyType(k, v), dims.precision === "f64" ? 1 : 0, valueStrideOf(dims));
  }

  attentionBackward(
    dq: Tensor, dk: Tensor, dv: Tensor, dsinks: Tensor | undefined,
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dims: AttentionDims, extras: AttentionExtras = {},
  ): void {
    const tensors = [dq, dk, dv, dsinks, dout, q, k, v, out, lse].map(address);
    this.addon.attentionBackward(this.variant, ...tensors, ...attentionNumbers(dims, extras), keyType(k, v), 0, valueStrideOf(dims));
  }
}

function productCode(form: MatmulForm, b: Tensor, options: MatmulOptions): number {
  if (roundsToBf16(b, options)) return 1;
  return options.precision === "f64" && form === "nt" && b.dtype === "f32" ? 2 : 0;
}

/** Number of the type that keys and values have in common. */
function keyType(k: Tensor, v: Tensor): number {
  check(k.dtype === v.dtype, "ERR_SWITCHYARD_DTYPE", () => `attention: expected k and v of one type, got ${k} and ${v}`);
  return storedTypes.indexOf(k.dtype);
}

const valueStrideOf = ({ kvHeads, headDim, valueDim = headDim, valueStride = kvHeads * valueDim }: AttentionDims): number => valueStride;

function attentionNumbers(d: AttentionDims, { sinks, bias }: AttentionExtras): number[] {
  const { headDim, valueDim = headDim, causal = true, window = 0, chunk = 0 } = d;
  return [
    d.batch, d.queries, d.keys, d.keyStride, d.heads, d.kvHeads, headDim, valueDim, d.scale, Number(causal), window, chunk,
    address(sinks), address(bias), bias?.shape[0] ?? 1, bias?.shape[1] ?? 1,
  ];
}
