import { isDeepStrictEqual } from "node:util";
import { Arena } from "../engine/arena.js";
import type { Engine, ExpertMatrices } from "../engine/engine.js";
import { byteLength, type DType, isStored, storedBlocks } from "../tensor/dtype.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { Columns } from "./families/names.js";
import type { MappedFiles } from "./mapped-files.js";
import { type Loose, placesOf, type Repacked } from "./repacked.js";

/** The rows of a parameter that one tensor of a file holds, in a type that products read in place. */
export interface StoredRows {
  file: string;
  dtype: DType;
  /** Byte of the file where the first row begins. */
  begin: number;
  rows: number;
  /** Which row of the parameter row r of the tensor is, counted through all its matrices; -1 if it is none. */
  at(r: number): number;
  /** If its columns stand in another order than the parameter's. */
  columns?: Columns | undefined;
}

/** A stack of matrices of a file, of a type that products read in place. */
export interface StoredStack {
  file: string;
  dtype: DType;
  /** Byte of the file where the first matrix begins. */
  begin: number;
  /** [matrices, rows, columns] */
  shape: readonly number[];
}

/** Where a parameter comes from. */
export interface ParameterSource {
  /** Copies its elements into `target`, a float tensor of its shape. */
  read(engine: Engine, target: Tensor): void;
  /** Where its rows lie in files; undefined if products cannot read them there. */
  rows?: readonly StoredRows[] | undefined;
  /** Instead of `rows`, of a parameter in one tensor whose columns stand in another order: products must have their activations in that order too. */
  reordered?: StoredRows | undefined;
  /** Instead of `rows`, of a parameter whose products take apart what the files have: stacks of matrices, some of them [in, out]. */
  apart?: readonly StoredStack[] | undefined;
  /** How to make of it what products read, if its elements have such a type in the files and only stand in another order. */
  repacked?: Repacked | undefined;
  /** What files call the types of the tensors that hold it. */
  types?: readonly string[];
}

/** The engine's name for a file's type of elements; undefined if products do not read that type. */
export function storedDtype(name: string): DType | undefined {
  const dtype = name.toLowerCase();
  return dtype === "f32" || dtype in storedBlocks ? (dtype as DType) : undefined;
}

/** Rows that follow one another both in a file and in a matrix. */
export interface StoredMatrix {
  file: string;
  dtype: DType;
  /** Byte of the file where the first row begins. */
  begin: number;
  rows: number;
  cols: number;
  /**
   * If its bytes are to be repacked before products can read them: where they are. `places`: the row of the matrix that each of them becomes, if their
   * order is another; matrices of one order share one array.
   */
  loose?: (Loose & { places?: Int32Array | undefined }) | undefined;
}

/** Rows of a parameter; the first is its row `at`, counted through all its matrices. */
interface Run extends StoredMatrix {
  at: number;
}

/**
 * A parameter [rows, columns] or [E, rows, columns] as products take it, where the files have it: one part, or two such as gate and up, whose
 * rows follow one another; each part has a matrix per expert, each of any type, or the only one. Undefined where rows stand in another order, or
 * floats are not aligned.
 */
export function storedParts(shape: readonly number[], stored: readonly StoredRows[]): StoredMatrix[][] | undefined {
  if (!isReadable(stored)) return undefined;
  const rows = shape.at(-2) as number;
  return partsOf(runsOf(stored, shape.at(-1) as number).flatMap((run) => split(run, rows)), rows, shape.length === 3 ? (shape[0] as number) : 1);
}

/** As `storedParts`, of a parameter that is to be repacked. */
export function looseParts(shape: readonly number[], { dtype, matrices }: Repacked): StoredMatrix[][] | undefined {
  const cols = shape.at(-1) as number;
  let known: Int32Array | undefined;
  const pieces = matrices.map((matrix): Run => {
    const { rows, at: _, ...loose } = matrix;
    const { first, rows: places } = placesOf(matrix);
    if (!isDeepStrictEqual(places, known)) known = places;
    const { file, begin } = loose.elements;
    return { file, dtype, begin, rows, cols, at: first, loose: { ...loose, places: known } };
  });
  const isWhole = pieces.every(({ rows, loose }) => loose?.places === undefined || new Set(loose.places.filter((place) => place >= 0 && place < rows)).size === rows);
  return isWhole ? partsOf(pieces, shape.at(-2) as number, shape.length === 3 ? (shape[0] as number) : 1) : undefined;
}

/** The parts of `storedParts`, mapped. Rows that stand in another order are copied into `arena` in the parameter's order and their stored type. */
export function mapWeight(files: MappedFiles, arena: Arena, engine: Engine, shape: readonly number[], stored: readonly StoredRows[]): readonly ExpertMatrices[] | undefined {
  const map = ({ file, dtype, begin, rows, cols }: StoredMatrix) => files.tensor(file, dtype, [rows, cols], begin);
  const parts = storedParts(shape, stored)?.map((part) => part.map(map));
  if (parts !== undefined) return shape.length === 3 ? parts : parts.flat();
  const [{ dtype }] = stored as [StoredRows];
  if (!isReadable(stored) || !isStored(dtype) || stored.some((other) => other.dtype !== dtype)) return undefined;
  const copy = arena.alloc(dtype, shape);
  for (const run of runsOf(stored, copy.cols)) engine.copy(view(copy, [run.rows, run.cols], run.at * run.cols), map(run));
  return [copy];
}

/** The matrices of a stack, mapped; undefined if floats are not aligned. */
export function mapStack(files: MappedFiles, stack: StoredStack): Tensor[] | undefined {
  const { file, dtype, begin, shape: [matrices = 0, rows = 0, cols = 0] } = stack;
  if (!isReadable([stack])) return undefined;
  return Array.from({ length: matrices }, (_, i) => files.tensor(file, dtype, [rows, cols], begin + byteLength(dtype, i * rows * cols)));
}

const isReadable = (stored: readonly Pick<StoredRows, "dtype" | "begin">[]): boolean => stored.every(({ dtype, begin }) => isStored(dtype) || begin % byteLength(dtype, 1) === 0);

function runsOf(stored: readonly StoredRows[], cols: number): Run[] {
  const runs: Run[] = [];
  for (const { file, dtype, begin, rows, at } of stored) {
    for (let first = 0; first < rows; ) {
      const start = at(first);
      let end = first + 1;
      while (end < rows && at(end) === (start < 0 ? -1 : start + end - first)) end++;
      if (start >= 0) runs.push({ file, dtype, begin: begin + byteLength(dtype, first * cols), rows: end - first, cols, at: start });
      first = end;
    }
  }
  return runs;
}

/** A run as pieces of one matrix each. */
function split(run: Run, matrixRows: number): Run[] {
  const pieces: Run[] = [];
  for (let done = 0; done < run.rows; ) {
    const at = run.at + done;
    const rows = Math.min(run.rows - done, matrixRows - (at % matrixRows));
    pieces.push({ ...run, begin: run.begin + byteLength(run.dtype, done * run.cols), rows, at });
    done += rows;
  }
  return pieces;
}

/** At most two parts that make up every matrix, each with one piece of the same size in each of them; undefined where there are others. */
function partsOf(pieces: readonly Run[], matrixRows: number, matrices: number): StoredMatrix[][] | undefined {
  const byOffset = new Map<number, StoredMatrix[]>();
  for (const { at, ...piece } of pieces.toSorted((a, b) => a.at - b.at)) {
    const offset = at % matrixRows;
    let part = byOffset.get(offset);
    if (part === undefined) byOffset.set(offset, (part = []));
    if (part.length !== Math.floor(at / matrixRows) || (part[0] !== undefined && part[0].rows !== piece.rows)) return undefined;
    part.push(piece);
  }
  const parts = [...byOffset].sort(([a], [b]) => a - b).map(([, part]) => part);
  return parts.length <= 2 && parts.every((part) => part.length === matrices) ? parts : undefined;
}

/** Copies a mapped parameter into a float tensor of its shape. */
export function copyMapped(engine: Engine, target: Tensor, parts: readonly ExpertMatrices[]): void {
  const rows = target.shape.at(-2) as number;
  let first = 0;
  for (const part of parts) {
    const matrices = "shape" in part ? [part] : part;
    for (const [m, matrix] of matrices.entries()) {
      const out = view(target, [matrix.rows, matrix.cols], (m * rows + first) * matrix.cols);
      if (matrix.dtype === out.dtype) engine.copy(out, matrix);
      else widen(engine, out, matrix);
    }
    first += (matrices[0] as Tensor).rows;
  }
}

/** Rows of a stored type as floats. */
function widen(engine: Engine, out: Tensor, matrix: Tensor): void {
  using arena = new Arena(engine, 0);
  const rows = arena.alloc("i32", [matrix.rows]);
  engine.write(rows, Int32Array.from({ length: matrix.rows }, (_, r) => r));
  engine.gatherRows(out, view(matrix, [matrix.rows, matrix.cols]), rows);
}
