import { check } from "../errors.js";
import { type DType, isStored, storedBlocks, typedArray, type TypedArray } from "../tensor/dtype.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { AttentionDims, AttentionExtras, ExpertMatrices, FileReads, GroupedOptions, MatmulForm, MatmulOptions, LooseRows, MatrixOps, Memory, Precision, Region, RepackingOps } from "./engine.js";
import { CommandList, type ListAddon } from "./command-list.js";
import { everything, settle, takeUpdate } from "./late-updates.js";
import { columnsOf, matricesOf, pairOf, roundsToBf16 } from "./matrix-lists.js";
import { NativeRegion } from "./native-region.js";
import { NativeReads, type ReadsAddon, systemError } from "./native-reads.js";

/** An op of the addon: addresses, dimensions and flags, all numbers; throws ERR_SWITCHYARD_ENGINE when one does not hold. */
export type NativeOp = (...args: number[]) => void;
/** The same for an op that may also take a list of addresses. */
type NativeListOp = (...args: (number | Float64Array)[]) => void;

/** The addon's exports. Ops that compute take the index of a kernel variant first. */
export interface Addon extends ReadsAddon, ListAddon {
  /** Kernel variants by index; null for one that this machine cannot run. */
  isas(): (string | null)[];
  /** Sets the number of threads unless n is 0; returns it. One pool serves every engine of the process. */
  threads(n: number): number;
  allocate(bytes: number): number;
  mapFile(path: string): { address: number; bytes: number } | number;
  release(address: number): void;
  advise: NativeOp;
  /** Whether a mapped file has become shorter since it was mapped. */
  fileWasCut(): boolean;
  read(out: TypedArray, address: number): void;
  write(address: number, values: TypedArray): void;
  copy: NativeOp;
  fill: NativeOp;
  repack: NativeOp;
  matmul: NativeOp;
  matmuls: NativeOp;
  groupedMatmul: NativeListOp;
  narrow: NativeOp;
  attention: NativeOp;
  attentionBackward: NativeOp;
  /** Operations per second of multiply-adds in registers, on all threads; of: 0 f32, 1 bf16, 2 int8. */
  peak(isa: number, iterations: number, of: number): number;
  /** Bytes per second of all threads reading memory once. */
  readBandwidth(address: number, bytes: number): number;
}

const formCode: Record<MatmulForm, number> = { nt: 0, nn: 1, tn: 2 };
const fillCode: Partial<Record<DType, number>> = { f32: 0, f64: 1, i32: 2 };
/** In the order of the enumerators of native/kernels/stored.h; -1 for what no product takes. */
export const storedTypes: readonly DType[] = ["f32", ...(Object.keys(storedBlocks) as DType[])];

/** In the place of a second and third product of `matmuls`, or of an update of the experts. */
const none: readonly number[] = new Array<number>(12).fill(0);

/** A tensor's address, at which no update waits any more; 0 for none. A tensor of another engine yields a typed array, which the addon refuses. */
export function address(t: Tensor | undefined): number {
  if (t === undefined) return 0;
  settle(t);
  return t.storage as number;
}

/** Memory, matrix products and attention of the native engine; `NativeEngine` adds the rest. */
export class NativeCore<A extends Addon = Addon> implements Memory, RepackingOps, MatrixOps {
  readonly name = "native";
  readonly float = "f32";
  readonly isa: string;
  /** Index of the kernel variant, the first argument of every op that computes. */
  protected readonly variant: number;
  protected readonly addon: A;
  private held = 0;
  private readonly commands: CommandList<A>;

  /** Throws ERR_SWITCHYARD_ENGINE when this machine cannot run `isa`; without it the best variant is taken. */
  constructor(
    addon: A,
    readonly source: string,
    isa?: string,
  ) {
    this.commands = CommandList.of(addon);
    this.addon = this.commands.addon;
    const isas = addon.isas();
    this.variant = isa === undefined ? isas.findLastIndex((name) => name !== null) : isas.indexOf(isa);
    check(
      this.variant >= 0,
      "ERR_SWITCHYARD_ENGINE",
      () => `engine: kernel variant "${isa}" does not exist or this CPU cannot run it; use one of ${isas.filter((name) => name !== null).join(", ")}`,
    );
    this.isa = isas[this.variant] as string;
  }

  together<R>(compute: () => R): R {
    return this.commands.together(compute);
  }

  get threads(): number {
    return this.addon.threads(0);
  }

  set threads(n: number) {
    check(Number.isInteger(n) && n >= 1 && n <= 256, "ERR_SWITCHYARD_USAGE", () => `threads: expected an integer from 1 to 256, got ${n}`);
    this.addon.threads(n);
  }

  /** What the threads could do at most, measured anew (some 20 ms): 1e9 operations/s of independent multiply-adds; bf16 where the CPU has them. */
  peakGflops(of: Precision | "int8" = "f32"): number {
    return this.addon.peak(this.variant, 2e6, of === "int8" ? 2 : of === "bf16" ? 1 : 0) / 1e9;
  }

  /** GB/s at which the threads read `t` once, which should be much larger than the caches. */
  readBandwidth(t: Tensor): number {
    return this.addon.readBandwidth(address(t), t.bytes) / 1e9;
  }

  get allocatedBytes(): number {
    return this.held;
  }

  allocate(bytes: number): Region {
    const start = this.addon.allocate(bytes);
    check(start !== 0, "ERR_SWITCHYARD_MEMORY", () => `allocate: the system has no ${bytes} bytes left; use a smaller model, batch or context`);
    this.held += bytes;
    return new NativeRegion(start, bytes, () => {
      settle({ storage: start, bytes });
      this.addon.release(start);
      this.held -= bytes;
    });
  }

  mapFile(path: string): Region {
    const mapped = this.addon.mapFile(path);
    if (typeof mapped === "number") throw systemError("mapFile: cannot map", path, mapped, "it must be a readable, non-empty file");
    return new NativeRegion(mapped.address, mapped.bytes, () => this.addon.release(mapped.address));
  }

  openFile(path: string): FileReads {
    return new NativeReads(this.addon, path);
  }

  read(t: Tensor): TypedArray {
    const values = typedArray(t.dtype, t.size);
    this.addon.read(values, address(t));
    // What is missing of a file reads as zeros: nothing that was computed from it leaves the engine.
    check(!this.addon.fileWasCut(), "ERR_SWITCHYARD_IO", () => "read: a file of a loaded model was cut short while it was in use; restore the file and load the model again");
    return values;
  }

  write(t: Tensor, values: ArrayLike<number>): void {
    const count = isStored(t.dtype) ? t.bytes : t.size;
    check(values.length === count, "ERR_SWITCHYARD_SHAPE", () => `write: ${t} takes ${count} values, got ${values.length}`);
    let typed = values as TypedArray;
    if (Object.prototype.toString.call(values) !== (arrayTag[t.dtype] ?? "[object Uint8Array]")) {
      typed = typedArray(t.dtype, t.size);
      typed.set(values);
    }
    this.addon.write(address(t), typed);
  }

  copy(out: Tensor, x: Tensor): void {
    const narrows = out.dtype === "f16" && x.dtype === "f32";
    check(out.size === x.size && (narrows || out.dtype === x.dtype), "ERR_SWITCHYARD_SHAPE", () => `copy: ${x} does not fit ${out}`);
    if (narrows) this.addon.narrow(this.variant, address(out), address(x), x.size);
    else this.addon.copy(address(out), address(x), out.bytes);
  }

  advise(t: Tensor, needed: boolean): void {
    this.addon.advise(address(t), t.bytes, Number(needed));
  }

  fill(out: Tensor, value: number): void {
    const code = fillCode[out.dtype];
    check(code !== undefined, "ERR_SWITCHYARD_DTYPE", () => `fill: expected f32, f64 or i32, got ${out}`);
    this.addon.fill(address(out), out.size, value, code);
  }

  repack(out: Tensor, { rows, elements, scales, block = [0, 0], scaleType = "f32", places }: LooseRows): void {
    this.addon.repack(address(out), storedTypes.indexOf(out.dtype), out.rows, address(elements), address(scales), rows, out.cols, address(places), storedTypes.indexOf(scaleType), ...block);
  }

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
    const numbers = bs.flatMap((b, i) => {
      const [out, column] = [outs[i] as Tensor, columns[i] as number];
      check(b.cols === a.cols && out.rows === a.rows && column + b.rows <= out.cols, "ERR_SWITCHYARD_SHAPE", () => `matmuls: ${a} and ${b} do not give columns from ${column} on of ${out}`);
      return [address(out) + 4 * column, address(b), b.rows, out.cols];
    });
    this.addon.matmuls(this.variant, address(a), a.rows, a.cols, Number(roundsToBf16(first, options)), storedTypes.indexOf(first.dtype), ...numbers, ...none.slice(numbers.length));
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
    const update = form === "nt" && !list ? takeUpdate(first) : undefined;
    this.addon.groupedMatmul(
      this.variant, formCode[form], address(out) + 4 * column, address(a), pair ?? (list ? matricesOf(list).addresses : address(first)), m, n, k,
      accumulate ? 1 : 0, Number(roundsToBf16(first, options)), tn ? n : out.cols, storedTypes.indexOf(first.dtype),
      groups, address(offsets), address(rowsA), address(rowsB), rows, a.rows, tn ? first.rows : 0, lists, ...(update ?? none), address(squares),
    );
  }

  attention(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, dims: AttentionDims, extras: AttentionExtras = {}): void {
    this.addon.attention(this.variant, address(out), address(lse), address(q), address(k), address(v), ...attentionNumbers(dims, extras), keyType(k, v), dims.precision === "f64" ? 1 : 0);
  }

  attentionBackward(
    dq: Tensor, dk: Tensor, dv: Tensor, dsinks: Tensor | undefined,
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dims: AttentionDims, extras: AttentionExtras = {},
  ): void {
    const tensors = [dq, dk, dv, dsinks, dout, q, k, v, out, lse].map(address);
    this.addon.attentionBackward(this.variant, ...tensors, ...attentionNumbers(dims, extras), keyType(k, v), 0);
  }
}

const arrayTag: Partial<Record<DType, string>> = { f32: "[object Float32Array]", f64: "[object Float64Array]", i32: "[object Int32Array]" };

function productCode(form: MatmulForm, b: Tensor, options: MatmulOptions): number {
  if (roundsToBf16(b, options)) return 1;
  return options.precision === "f64" && form === "nt" && b.dtype === "f32" ? 2 : 0;
}

/** Number of the type that keys and values have in common. */
function keyType(k: Tensor, v: Tensor): number {
  check(k.dtype === v.dtype, "ERR_SWITCHYARD_DTYPE", () => `attention: expected k and v of one type, got ${k} and ${v}`);
  return storedTypes.indexOf(k.dtype);
}

function attentionNumbers(d: AttentionDims, { sinks, bias }: AttentionExtras): number[] {
  const { headDim, valueDim = headDim, causal = true, window = 0, chunk = 0 } = d;
  return [
    d.batch, d.queries, d.keys, d.keyStride, d.heads, d.kvHeads, headDim, valueDim, d.scale, Number(causal), window, chunk,
    address(sinks), address(bias), bias?.shape[0] ?? 1, bias?.shape[1] ?? 1,
  ];
}
