import { sizeOf } from "../../tensor/tensor.js";
import type { ModelConfig } from "../config.js";
import type { ParameterSpec } from "../parameter-specs.js";

/** How a published tensor holds a parameter, or a part of it. */
export interface StoredAs {
  /** "{e}" stands for the expert: one tensor each. Otherwise a stack of experts is one tensor [E, rows, cols]. */
  name: string;
  /** It is one half of the rows: those of the gate or those of the up projection. */
  half?: "gate" | "up";
  /** Matrices are stored [in, out]. */
  transposed?: boolean;
  /** Rows of gate and up projection alternate, where the parameter has first all of one, then all of the other. */
  interleaved?: boolean;
  /** It is some rows of a tensor of `of` rows, which has those of other parameters or parts too: `at` gives ours for each of them, or -1. */
  rows?: (config: ModelConfig) => { of: number; at: (row: number) => number };
  /** Its columns are ours in another order. */
  columns?: (config: ModelConfig) => Columns;
  /** Its elements are a function of ours. */
  elements?: Elements;
  /** From the shape of the vector, the matrix or the stack of matrices to that of the tensor, which has the same elements in other dimensions. */
  stored?: (shape: readonly number[]) => number[];
}

/** Columns of a matrix in a file: runs of `size`, of which number `run` is number `at(run)` of ours. */
export interface Columns {
  size: number;
  at(run: number): number;
}

/** Our column of a file's column `c`. */
export const ourColumn = (columns: Columns | undefined, c: number): number => (columns === undefined ? c : columns.at(Math.floor(c / columns.size)) * columns.size + (c % columns.size));

/** A function of single elements, and its inverse; both in double precision, of which an f32 is kept. */
export interface Elements {
  fromOurs(x: number): number;
  toOurs(x: number): number;
}

/**
 * What a family calls its tensors: by our name of the parameter ("attention.q", without the layer) one published tensor or several that
 * make it up. Names of a layer's parameters go below `layer`.
 */
export interface TensorNames {
  /** As "model.layers.". */
  layer: string;
  tensors: Readonly<Record<string, string | readonly StoredAs[]>>;
}

/** A published tensor, and which of its rows are which elements of one of our parameters. */
export interface Piece {
  name: string;
  shape: readonly number[];
  /** Rows in all its matrices, those of each, and columns; of the matrices as we have them, [out, in]. */
  rows: number;
  matrixRows: number;
  cols: number;
  /** Its matrices are stored [in, out]. */
  transposed: boolean;
  columns?: Columns | undefined;
  elements?: Elements | undefined;
  /** Products take its matrices one by one, as they are stored. */
  apart?: boolean;
  /** First element of row `r` in our parameter, or -1 if that row belongs to another. */
  at(r: number): number;
}

/** A table that embedding and head share is stored once, by some publishers under the head's name. */
export function sharedTableName(name: string, { tensors }: TensorNames, stored: { has(name: string): boolean }): string {
  const { embedding, head } = tensors;
  return name === embedding && !stored.has(name) && typeof head === "string" && stored.has(head) ? head : name;
}

/** The published tensors that make up a parameter. */
export function publishedPieces({ name, shape }: Pick<ParameterSpec, "name" | "shape">, config: ModelConfig, names: TensorNames): Piece[] {
  const [, layer, rest] = /^layers\.(\d+)\.(.+)$/.exec(name) ?? [];
  const ours = rest ?? name;
  const stored = names.tensors[ours];
  if (stored === undefined) throw new Error(`no published name for the parameter "${name}"`);
  const prefix = layer === undefined ? "" : `${names.layer}${layer}.`;
  return partsOf(ours, stored, config).flatMap((as) => {
    const [experts, inner] = ours.startsWith("experts.") ? [shape[0] as number, shape.slice(1)] : [1, shape];
    const perExpert = as.name.includes("{e}");
    const stacked = ours.startsWith("experts.") && !perExpert;
    return Array.from({ length: perExpert ? experts : 1 }, (_, e) => piece(prefix + as.name.replace("{e}", String(e)), as, inner, stacked ? experts : 0, e * sizeOf(inner), config));
  });
}

function partsOf(ours: string, stored: string | readonly StoredAs[], { moe }: ModelConfig): readonly StoredAs[] {
  if (typeof stored === "string") return [{ name: stored }];
  if (moe?.gated !== false || !/^(experts|shared)\./.test(ours)) return stored;
  return stored.flatMap(({ half, ...whole }) => (half === "gate" ? [] : [whole])); // without a gate, the up projection is all of it
}

/** `stack`: number of matrices in the tensor, 0 for a tensor that is one matrix or vector; `base`: where that begins in the parameter. */
function piece(name: string, as: StoredAs, inner: readonly number[], stack: number, base: number, config: ModelConfig): Piece {
  const [allRows = 0, cols = 1] = inner;
  const matrixRows = as.half === undefined ? allRows : allRows / 2;
  const stored = as.rows?.(config);
  const storedRows = stored?.of ?? matrixRows;
  const matrix = inner.length === 1 ? [storedRows] : as.transposed === true ? [cols, matrixRows] : [storedRows, cols];
  const shape = stack === 0 ? matrix : [stack, ...matrix];
  const ourRow = (i: number): number => {
    if (as.half === "up") return matrixRows + i;
    return as.interleaved === true ? (i >> 1) + (i & 1) * (allRows / 2) : i;
  };
  return {
    name,
    shape: as.stored?.(shape) ?? shape,
    rows: stored?.of ?? Math.max(1, stack) * matrixRows,
    matrixRows: storedRows,
    cols,
    transposed: as.transposed === true,
    columns: as.columns?.(config),
    elements: as.elements,
    at(r) {
      if (stored !== undefined) return stored.at(r) < 0 ? -1 : base + stored.at(r) * cols;
      return base + (Math.floor(r / matrixRows) * allRows + ourRow(r % matrixRows)) * cols;
    },
  };
}
