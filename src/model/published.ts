import { check, checkAborted, SwitchyardError } from "../errors.js";
import { ggufBytes, type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { fitBlocks } from "../quant/codecs.js";
import type { EncoderPool } from "../quant/encoder-pool.js";
import { sizeOf, view } from "../tensor/tensor.js";
import type { AnyConfig } from "./encoder-decoder/config.js";
import { ourColumn, type Piece } from "./families/names.js";
import { type ParameterSpec, parameterSpecs } from "./parameter-specs.js";
import type { Weights } from "./staged.js";
import { chunkElements, run } from "./stored.js";
import { type FileType, parameterType, storedType, type TensorType } from "./stored-types.js";

/**
 * What the square of an error in each column of a weight costs, by parameter: one vector [columns], or one for each of its experts.
 */
export type Importance = ReadonlyMap<string, readonly Float32Array[]>;

/** A parameter, or a part of it, in a published tensor. */
interface Source {
  piece: Piece;
  spec: ParameterSpec;
}

/** A tensor of a checkpoint that is to be written. */
export interface PublishedTensor {
  name: string;
  shape: readonly number[];
  /** The parameters whose rows it has. */
  sources: readonly [Source, ...Source[]];
  /** Our elements in its order, whole rows of one matrix at a time; `transposed`: matrices are [in, out]. */
  rows(transposed?: boolean): Generator<{ first: number; values: Float32Array<ArrayBuffer> }>;
}

/** A tensor as it was written. */
export interface WrittenTensor {
  name: string;
  type: GgufType;
  /** The one that parameters of its kind get where rows are whole blocks of it. */
  wanted: GgufType;
  elements: number;
  bytes: number;
  /** The parameter that it holds, or the first of several. */
  parameter: ParameterSpec;
}

export interface TypeOptions {
  /** Of the matrices; see `parameterType` and `storedType`. */
  type: FileType;
  /** Of some of them; the first that fits a name counts. */
  tensorTypes?: readonly TensorType[] | undefined;
}

/** `test` of a pattern with the flag "g" would begin where the last match ended. */
const fits = (pattern: RegExp, { name }: { name: string }): boolean => name.search(pattern) >= 0;

/** The types of tensors, and what the report says of them. `shapeOf`: with the blocks along the last dimension. Throws ERR_SWITCHYARD_USAGE for `tensorTypes` that fit none, or none that can have another type than F32. */
export function chooseTypes(
  tensors: readonly PublishedTensor[],
  shapeOf: (tensor: PublishedTensor) => readonly number[],
  { type, tensorTypes = [] }: TypeOptions,
  config: AnyConfig,
): WrittenTensor[] {
  for (const { tensors: pattern } of tensorTypes) {
    check(tensors.some((tensor) => fits(pattern, tensor)), "ERR_SWITCHYARD_USAGE", () => `tensor types: ${pattern} fits no tensor; names are like "${tensors[tensors.length >> 1]?.name}"`);
  }
  const written = tensors.map((tensor): WrittenTensor => {
    const { name, sources: [{ spec }] } = tensor;
    const shape = shapeOf(tensor);
    const wanted = tensorTypes.find((special) => fits(special.tensors, tensor))?.type ?? parameterType(type, spec.name, config);
    const stored = storedType(wanted, { name, shape }, spec);
    return { name, type: stored, wanted, elements: sizeOf(shape), bytes: ggufBytes(stored, shape) as number, parameter: spec };
  });
  for (const { tensors: pattern, type: wanted } of tensorTypes) {
    const fitting = written.filter((tensor) => fits(pattern, tensor));
    check(wanted === "F32" || fitting.some((tensor) => tensor.type !== "F32"), "ERR_SWITCHYARD_USAGE", () => `tensor types: ${pattern} fits only what stays F32, such as "${fitting[0]?.name}": routers, vectors, and rows that are no whole blocks`);
  }
  return written;
}

/** The tensors of a model under their published names. Each parameter is let go once the last tensor with rows of it has been read, and after each later reading. */
export function publishedTensors(config: AnyConfig, weights: Weights, piecesOf: (spec: ParameterSpec) => readonly Piece[]): PublishedTensor[] {
  const byName = new Map<string, [Source, ...Source[]]>();
  const uses = new Map<string, number>();
  for (const spec of parameterSpecs(config)) {
    for (const piece of piecesOf(spec)) {
      const source = { piece, spec };
      const known = byName.get(piece.name);
      if (known === undefined) byName.set(piece.name, [source]);
      else known.push(source);
      uses.set(spec.name, (uses.get(spec.name) ?? 0) + 1);
    }
  }
  const release = (name: string): void => {
    const left = (uses.get(name) as number) - 1;
    uses.set(name, left);
    if (left <= 0) weights.release?.(name);
  };
  return [...byName.values()].map((sources) => {
    const [{ piece }] = sources;
    return {
      name: piece.name,
      shape: piece.shape,
      sources,
      *rows(transposed = piece.transposed) {
        yield* rowsOf(weights, sources, transposed);
        for (const { spec } of sources) release(spec.name);
      },
    };
  });
}

function* rowsOf(weights: Weights, sources: readonly [Source, ...Source[]], transposed: boolean): Generator<{ first: number; values: Float32Array<ArrayBuffer> }> {
  const [{ piece: { rows, matrixRows, cols } }] = sources;
  const step = transposed ? matrixRows : Math.max(1, Math.floor(chunkElements / cols));
  for (let first = 0, count = 0; first < rows; first += count) {
    count = Math.min(step, matrixRows - (first % matrixRows));
    const values = new Float32Array(count * cols);
    for (const { piece, spec } of sources) {
      for (let done = 0; done < values.length; ) {
        const { offset, length } = run(piece, first * cols + done, values.length - done);
        if (offset >= 0) values.set(weights.engine.read(view(weights.get(spec.name), [length], offset)), done);
        done += length;
      }
    }
    yield { first, values: transposed ? transpose(values, matrixRows, cols) : values };
  }
}

function transpose(values: Float32Array, rows: number, cols: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[c * rows + r] = values[r * cols + c] as number;
  return out;
}

export interface EncodingOptions {
  /** What errors cost, for the search of scales; without it, all the same. */
  importance?: Importance | undefined;
  signal?: AbortSignal | undefined;
  /** Threads that encode blocks, so that the event loop has its turns; without it, this one. */
  pool?: EncoderPool | undefined;
}

/** The bytes of a tensor in a type, some megabytes at a time. Throws ERR_SWITCHYARD_DATA for weights that the type cannot hold, ERR_SWITCHYARD_ABORTED. */
export async function* encodedRows(tensor: PublishedTensor, type: GgufType, options: EncodingOptions, transposed = tensor.sources[0].piece.transposed): AsyncGenerator<Uint8Array> {
  try {
    yield* encoded(tensor, type, options, transposed);
  } catch (error) {
    if (!(error instanceof SwitchyardError) || error.code !== "ERR_SWITCHYARD_DATA") throw error;
    throw new SwitchyardError(error.code, `tensor "${tensor.name}": ${error.message}`, { cause: error });
  }
}

async function* encoded(tensor: PublishedTensor, type: GgufType, options: EncodingOptions, transposed: boolean): AsyncGenerator<Uint8Array> {
  const { importance, signal, pool } = options;
  const { matrixRows, cols, elements } = tensor.sources[0].piece;
  const alike = new Float32Array(transposed ? matrixRows : cols).fill(1);
  const begun: Promise<Uint8Array>[] = [];
  for (const { first, values: ours } of tensor.rows(transposed)) {
    checkAborted(signal, `write tensor "${tensor.name}"`);
    const values = elements === undefined ? ours : ours.map(elements.fromOurs);
    // Of a transposed matrix the columns are outputs, of which nothing is known.
    const weights = (transposed ? undefined : importanceOf(tensor, first, importance)) ?? alike;
    if (pool === undefined || ggufTypes[type].elements === 1) yield fitBlocks(type, values, weights);
    else {
      const job = pool.encode({ type, values, importance: weights });
      // It is awaited in its turn, before which its failure is nobody's.
      job.catch(() => undefined);
      begun.push(job);
      if (begun.length > pool.threads) yield await (begun.shift() as Promise<Uint8Array>);
    }
  }
  for (const job of begun) yield await job;
}

function importanceOf({ sources }: PublishedTensor, row: number, importance: Importance | undefined): Float32Array | undefined {
  const { piece, spec } = sources.find(({ piece: { at } }) => at(row) >= 0) ?? sources[0];
  const vectors = importance?.get(spec.name);
  const vector = vectors?.[vectors.length === 1 ? 0 : Math.floor((Math.max(0, piece.at(row)) * vectors.length) / sizeOf(spec.shape))];
  const { columns } = piece;
  return columns === undefined ? vector : vector?.map((_, c) => vector[ourColumn(columns, c)] as number);
}
