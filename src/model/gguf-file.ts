import { isDeepStrictEqual } from "node:util";
import type { Engine } from "../engine/engine.js";
import { check } from "../errors.js";
import { readChunks } from "../formats/chunks.js";
import type { GgufValue } from "../formats/gguf/metadata.js";
import { type Gguf, openGguf } from "../formats/gguf/open.js";
import type { GgufTensor } from "../formats/gguf/reader.js";
import { ggufBytes, ggufFileTypeIds, type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { type GgufTensorToWrite, writeGguf } from "../formats/gguf/writer.js";
import { decodeBlocks, encodeBlocks, isDecodable } from "../quant/codecs.js";
import { sizeOf, type Tensor, view } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import { type GgufPiece, ggufPieces } from "./families/gguf-names.js";
import { readGgufConfig, writeGgufConfig } from "./families/gguf.js";
import type { ModelFolder } from "./folder.js";
import { type ParameterSource, storedDtype, type StoredRows } from "./mapped.js";
import { type Parameters, type ParameterSpec, parameterSpecs } from "./parameters.js";

/** Whether a path names a GGUF file: by its name, so that what does not exist yet has a format too. */
export const isGguf = (path: string): boolean => /\.gguf$/i.test(path);

export interface ModelGguf extends ModelFolder {
  gguf: Gguf;
}

/**
 * Config and tensor directory of a GGUF model, checked against each other; `fill` then reads the weights and makes them f32. Throws
 * ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming file and key or tensor, also for a tensor that this
 * architecture has no use for: leaving it out would compute something else.
 */
export function readModelGguf(path: string): ModelGguf {
  const gguf = openGguf(path);
  const { config, family, interleaved } = readGgufConfig(gguf);
  const unused = new Set(gguf.tensors.keys());
  const sources = new Map<string, ParameterSource>();
  for (const spec of parameterSpecs(config)) {
    const pieces = ggufPieces(spec, config, interleaved).map((piece) => ({ piece, stored: find(gguf, piece, path) }));
    for (const { piece } of pieces) unused.delete(piece.name);
    const rows = pieces.map(({ piece, stored }) => storedRows(piece, stored));
    sources.set(spec.name, {
      read: (engine, target) => pieces.forEach(({ piece, stored }) => readPiece(engine, target, piece, stored)),
      rows: rows.every((part) => part !== undefined) ? rows : undefined,
    });
  }
  const [extra] = unused;
  check(extra === undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `${path}: tensor ${JSON.stringify(extra)} is not part of a ${family.modelType} model as Switchyard computes it`);
  return { config, family, gguf, sources };
}

function find({ tensors }: Gguf, { name, shape }: GgufPiece, path: string): GgufTensor {
  const stored = tensors.get(name);
  check(stored !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${path}: tensor "${name}" is missing`);
  check(
    isDeepStrictEqual(significant(stored.shape), significant(shape)),
    "ERR_SWITCHYARD_FORMAT",
    () => `${stored.file}: tensor "${name}": the metadata says [${shape.join(", ")}], the file has [${stored.shape.join(", ")}]`,
  );
  check(isDecodable(stored.type), "ERR_SWITCHYARD_UNSUPPORTED", () => `${stored.file}: tensor "${name}": its type ${stored.type} cannot be read yet`);
  return stored;
}

/** A piece as products read it in its file, if they can. */
function storedRows({ run, at }: GgufPiece, { type, shape, file, begin }: GgufTensor): StoredRows | undefined {
  const dtype = storedDtype(type);
  const cols = shape.at(-1) as number;
  const rowsPerRun = run / cols;
  return dtype === undefined ? undefined : { file, dtype, begin, rows: sizeOf(shape) / cols, at: (r) => at(Math.floor(r / rowsPerRun)) / cols + (r % rowsPerRun) };
}

/** Dimensions of 1 in front mean nothing in GGUF. */
const significant = (shape: readonly number[]): readonly number[] => shape.slice(shape.findIndex((n) => n !== 1));

/** Bytes read at a time, and elements written. */
const chunkBytes = 2 ** 22;
const chunkElements = 2 ** 20;

function readPiece(engine: Engine, parameter: Tensor, { run, at }: GgufPiece, stored: GgufTensor): void {
  let first = 0;
  for (const values of decodeTensor(stored)) {
    for (let done = 0; done < values.length; ) {
      const within = (first + done) % run;
      const n = Math.min(values.length - done, run - within);
      engine.write(view(parameter, [n], at((first + done - within) / run) + within), values.subarray(done, done + n));
      done += n;
    }
    first += values.length;
  }
}

/** A stored tensor's elements as f32, in order, some megabytes at a time. */
function* decodeTensor({ type, file, begin, end }: GgufTensor): Generator<Float32Array> {
  const step = Math.floor(chunkBytes / ggufTypes[type].bytes) * ggufTypes[type].bytes;
  for (const bytes of readChunks(file, begin, end, step)) yield decodeBlocks(type, bytes);
}

/** The types that a model can be written in. */
export const ggufFileTypes = ["F32", "F16", "Q4_0", "Q8_0"] as const satisfies readonly GgufType[];

export type GgufFileType = (typeof ggufFileTypes)[number];

/** The type of a tensor in a file of mostly `type`. */
export function storedType(type: GgufType, { shape }: GgufPiece, { group }: ParameterSpec): GgufType {
  if (shape.length === 1 || group === "router") return "F32";
  return ggufBytes(type, shape) === undefined ? "F16" : type;
}

/** Metadata of a file of mostly `type`. */
export function describeFile(type: GgufType): [string, GgufValue][] {
  const isFloat = ggufTypes[type].elements === 1;
  const entries: [string, number | undefined][] = [["general.file_type", ggufFileTypeIds[type]], ["general.quantization_version", isFloat ? undefined : 2]];
  return entries.flatMap(([key, value]) => (value === undefined ? [] : [[key, { type: "u32", value }]]));
}

/**
 * Writes a model as GGUF, atomically, with the metadata of `vocabulary` (see `ggufVocabulary`). Vectors and routers stay F32, whatever the type: they are small, and a rounded router sends tokens
 * elsewhere. A matrix whose rows are not whole blocks of the type becomes F16. Throws ERR_SWITCHYARD_UNSUPPORTED for a model that GGUF
 * cannot express, ERR_SWITCHYARD_IO, and ERR_SWITCHYARD_DATA for weights that the type cannot hold.
 */
export async function writeModelGguf(path: string, config: ModelConfig, parameters: Parameters, type: GgufFileType, vocabulary?: ReadonlyMap<string, GgufValue>): Promise<void> {
  const { metadata, interleaved } = writeGgufConfig(config);
  const tensors = parameterSpecs(config).flatMap((spec) =>
    ggufPieces(spec, config, interleaved).map((piece) => tensorToWrite(parameters.engine, parameters.get(spec.name), piece, storedType(type, piece, spec))),
  );
  await writeGguf(path, new Map([...metadata, ...describeFile(type), ...(vocabulary ?? [])]), tensors);
}

function tensorToWrite(engine: Engine, parameter: Tensor, { name, shape, run, at }: GgufPiece, type: GgufType): GgufTensorToWrite {
  return {
    name,
    type,
    shape,
    *chunks() {
      const size = sizeOf(shape);
      for (let first = 0; first < size; first += chunkElements) {
        const values = new Float32Array(Math.min(chunkElements, size - first));
        for (let done = 0; done < values.length; ) {
          const within = (first + done) % run;
          const n = Math.min(values.length - done, run - within);
          values.set(engine.read(view(parameter, [n], at((first + done - within) / run) + within)), done);
          done += n;
        }
        yield encodeBlocks(type, values);
      }
    },
  };
}
