import { type Source, withFile } from "../source.js";
import { Cursor } from "./cursor.js";
import { GgufMetadata, type GgufValue } from "./metadata.js";
import { type GgufType, ggufTypeOf, ggufTypes } from "./types.js";
import { readValue } from "./values.js";

/** Where a tensor lies: bytes [begin, end) of `file`. */
export interface GgufTensor {
  readonly type: GgufType;
  /** Rows last-dimension-fastest, as everywhere here; the file has the dimensions in the opposite order. */
  readonly shape: readonly number[];
  readonly file: string;
  readonly begin: number;
  readonly end: number;
}

export interface GgufHeader {
  readonly metadata: GgufMetadata;
  /** In the order of the file. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  readonly fileBytes: number;
}

const maxKeys = 1e5;
const maxTensors = 1e6;
const maxNameBytes = 350;
const maxDimensions = 4;
const maxAlignment = 4096;
const defaultAlignment = 32;
/** A key, the type and one byte; a name, one dimension, type and offset. */
const leastKeyBytes = 8 + 1 + 4 + 1;
const leastTensorBytes = 8 + 1 + 4 + 4 + 8;

/**
 * Reads the header of one GGUF file (version 3, and 2, which differs in nothing that matters here) and nothing else. Throws
 * ERR_SWITCHYARD_FORMAT naming file and field for anything the format does not allow, and ERR_SWITCHYARD_IO.
 */
export function readGgufHeader(path: string): GgufHeader {
  return withFile(path, "GGUF", parseGguf);
}

/** The same of a source that is open. */
export function parseGguf(source: Source): GgufHeader {
  const cursor = new Cursor(source);
  const file = source.name;
  const magic = String.fromCharCode(...cursor.take(4));
  if (magic !== "GGUF") cursor.fail(`expected "GGUF", got ${JSON.stringify(magic)}: the file is of another format`);
  cursor.field = "version";
  const version = cursor.u32();
  if (version !== 3 && version !== 2) cursor.fail(`expected 3, got ${version}${version % 2 ** 16 === 0 ? ": the file is big-endian; convert it" : ""}`);
  cursor.field = "tensor count";
  const tensorCount = cursor.u64();
  cursor.field = "metadata count";
  const keyCount = cursor.u64();
  cursor.checkRoom(keyCount, "keys", maxKeys, leastKeyBytes);
  cursor.field = "tensor count";
  cursor.checkRoom(tensorCount, "tensors", maxTensors, leastTensorBytes);
  const metadata = new GgufMetadata(readMetadata(cursor, keyCount), file);
  const alignment = alignmentOf(cursor, metadata.entries.get("general.alignment"));
  return { metadata, tensors: readTensors(cursor, tensorCount, alignment, file), fileBytes: cursor.fileBytes };
}

function readMetadata(cursor: Cursor, count: number): Map<string, GgufValue> {
  const entries = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    cursor.field = `metadata ${i}: key`;
    const key = readName(cursor, entries);
    cursor.field = `metadata ${JSON.stringify(key)}`;
    entries.set(key, readValue(cursor));
  }
  return entries;
}

/** A key or a tensor's name. */
function readName(cursor: Cursor, known: ReadonlyMap<string, unknown>): string {
  const name = cursor.string(maxNameBytes);
  // A C program would see another name than we do where there is a NUL.
  if (!/^[^\0-\x1f\x7f]+$/.test(name) || name === "__proto__") cursor.fail(`${JSON.stringify(name)} is not allowed`);
  if (known.has(name)) cursor.fail(`duplicate ${JSON.stringify(name)}`);
  return name;
}

function alignmentOf(cursor: Cursor, given: GgufValue | undefined): number {
  if (given === undefined) return defaultAlignment;
  cursor.field = 'metadata "general.alignment"';
  const { type, value } = given;
  if (type !== "u32") cursor.fail(`expected u32, got ${type}`);
  const n = value as number;
  if (n < 1 || n > maxAlignment || (n & (n - 1)) !== 0) cursor.fail(`expected a power of two up to ${maxAlignment}, got ${n}`);
  return n;
}

const alignUp = (n: number, alignment: number): number => Math.ceil(n / alignment) * alignment;

function readTensors(cursor: Cursor, count: number, alignment: number, file: string): Map<string, GgufTensor> {
  const tensors = new Map<string, { -readonly [key in keyof GgufTensor]: GgufTensor[key] }>();
  for (let i = 0; i < count; i++) {
    cursor.field = `tensor ${i}: name`;
    const name = readName(cursor, tensors);
    tensors.set(name, readTensorInfo(cursor, file, `tensor ${JSON.stringify(name)}`, alignment));
  }
  // Offsets in the file count from here.
  const dataStart = alignUp(cursor.at, alignment);
  for (const tensor of tensors.values()) {
    tensor.begin += dataStart;
    tensor.end += dataStart;
  }
  checkLayout(cursor, tensors, alignment);
  return tensors;
}

/** With [begin, end) from the start of the data. */
function readTensorInfo(cursor: Cursor, file: string, tensor: string, alignment: number): GgufTensor {
  cursor.field = `${tensor}: dimensions`;
  const dimensions = cursor.u32();
  if (dimensions > maxDimensions) cursor.fail(`expected at most ${maxDimensions} dimensions, got ${dimensions}`);
  const dims = Array.from({ length: dimensions }, () => cursor.u64());
  cursor.field = `${tensor}: type`;
  const id = cursor.u32();
  const type = ggufTypeOf.get(id) ?? cursor.fail(`expected one of ${[...ggufTypeOf].map(([n, name]) => `${n} (${name})`).join(", ")}, got ${id}`);
  cursor.field = `${tensor}: dimensions`;
  if (dims.includes(0)) cursor.fail(`expected positive dimensions, got [${dims.join(", ")}]`);
  const block = ggufTypes[type];
  const [row = 1] = dims;
  if (row % block.elements !== 0) cursor.fail(`expected rows of a multiple of ${block.elements} elements for ${type}, got ${row}`);
  // Each factor is at least 1, so the partial products only grow: an unsafe one stays unsafe.
  const bytes = dims.slice(1).reduce((product, n) => product * n, (row / block.elements) * block.bytes);
  if (bytes > cursor.fileBytes) cursor.failShort(`[${dims.join(", ")}] of ${type} is larger than the file`, cursor.at + bytes);
  cursor.field = `${tensor}: offset`;
  const begin = cursor.u64();
  if (begin % alignment !== 0) cursor.fail(`expected a multiple of ${alignment}, the alignment, got ${begin}`);
  return { type, shape: dims.toReversed(), file, begin, end: begin + bytes };
}

const lastEnd = (tensors: ReadonlyMap<string, GgufTensor>): number => [...tensors.values()].reduce((last, { end }) => Math.max(last, end), 0);

/** Tensors lie in the file, do not overlap, and nothing but padding follows them. */
function checkLayout(cursor: Cursor, tensors: ReadonlyMap<string, GgufTensor>, alignment: number): void {
  let at = cursor.at;
  let previous = "";
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    cursor.field = `tensor ${JSON.stringify(name)}: offset`;
    if (end > cursor.fileBytes) cursor.failShort(`expected its bytes to end within the file of ${cursor.fileBytes}, they would at ${end}`, lastEnd(tensors));
    if (begin < at) cursor.fail(`overlaps tensor ${JSON.stringify(previous)}`);
    at = end;
    previous = name;
  }
  cursor.field = "data";
  const extra = cursor.fileBytes - alignUp(at, alignment);
  if (extra > 0) cursor.fail(`the last ${extra} bytes of the file belong to no tensor`);
}
