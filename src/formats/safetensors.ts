import { check, SwitchyardError } from "../errors.js";
import { isJsonObject, type Json, type JsonObject, parseJson } from "./json.js";
import { cutShort, type Source, withFile } from "./source.js";

/** Bits per element of every type of the format (safetensors 0.7). */
const dtypeBits = {
  BOOL: 8, U8: 8, I8: 8, U16: 16, I16: 16, U32: 32, I32: 32, U64: 64, I64: 64,
  F4: 4, F6_E2M3: 6, F6_E3M2: 6, F8_E4M3: 8, F8_E5M2: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8,
  F16: 16, BF16: 16, F32: 32, F64: 64, C64: 64,
} as const;

export type SafetensorsDtype = keyof typeof dtypeBits;

/** Where a tensor lies: bytes [begin, end) counted from the start of the file. Old files do not align `begin` to the element size. */
export interface StoredTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In the order of the file. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  /** First byte of tensor data: 8 + header. */
  readonly dataStart: number;
  readonly fileBytes: number;
}

/** A larger header is no model: it is a mistake or an attack. */
const maxHeaderBytes = 25 * 2 ** 20;
const maxTensors = 1e6;
const maxDimensions = 8;
const maxNameBytes = 350;

/** Bytes of a tensor of `shape`, or undefined where that is no whole number of bytes below 2^53. */
export function storedBytes(dtype: SafetensorsDtype, shape: readonly number[]): number | undefined {
  if (shape.includes(0)) return 0;
  // Each factor is at least 1, so the partial products only grow: an unsafe one stays unsafe.
  const bytes = shape.reduce((product, n) => product * n, dtypeBits[dtype]) / 8;
  return bytes < 2 ** 50 && Number.isInteger(bytes) ? bytes : undefined;
}

/**
 * Reads the header of a safetensors file and nothing else; the tensors are mapped by the engine. Throws
 * ERR_SWITCHYARD_FORMAT naming file, tensor and field for anything the format does not allow, and ERR_SWITCHYARD_IO.
 */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  return withFile(path, "safetensors", parseSafetensors);
}

/** The same of a source that is open. */
export function parseSafetensors(source: Source): SafetensorsHeader {
  const { name, bytes: fileBytes } = source;
  check(fileBytes >= 8, "ERR_SWITCHYARD_FORMAT", () => `${name}: header length: expected 8 bytes, got a file of ${fileBytes}${cutShort(fileBytes, 8)}`);
  const prefix = new Uint8Array(8);
  source.read(prefix, 0);
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  check(
    headerBytes >= 2 && headerBytes <= maxHeaderBytes,
    "ERR_SWITCHYARD_FORMAT",
    () => `${name}: header length: expected 2 to ${maxHeaderBytes}, got ${headerBytes}; the file is damaged or of another format`,
  );
  check(8 + headerBytes <= fileBytes, "ERR_SWITCHYARD_FORMAT", () => `${name}: header length: expected at most ${fileBytes - 8}, the bytes behind it, got ${headerBytes}${cutShort(fileBytes, 8 + headerBytes)}`);
  const header = new Uint8Array(headerBytes);
  source.read(header, 8);
  return parseHeader(header, fileBytes, name);
}

/** Checks the JSON header of a file of `fileBytes` bytes; `source` is what errors call the file. */
function parseHeader(header: Uint8Array, fileBytes: number, source: string): SafetensorsHeader {
  check(header[0] === 0x7b, "ERR_SWITCHYARD_FORMAT", () => `${source}: header: expected it to start with "{"`);
  const root = parseJson(header, `${source}: header`, { maxBytes: maxHeaderBytes, maxDepth: 3, integersOnly: true }) as JsonObject;
  const dataStart = 8 + header.length;
  const entries = Object.entries(root).filter(([name]) => name !== "__metadata__");
  check(entries.length <= maxTensors, "ERR_SWITCHYARD_FORMAT", () => `${source}: header: expected at most ${maxTensors} tensors, got ${entries.length}`);
  const tensors = entries.map(([name, value]) => [name, storedTensor(name, value, dataStart, source)] as const);
  checkEnds(tensors, dataStart, fileBytes, source);
  checkLayout(tensors.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end), dataStart, fileBytes, source);
  return { tensors: new Map(tensors), metadata: metadataOf(root["__metadata__"], source), dataStart, fileBytes };
}

function metadataOf(value: Json | undefined, source: string): Record<string, string> {
  if (value === undefined) return {};
  check(isJsonObject(value), "ERR_SWITCHYARD_FORMAT", () => `${source}: __metadata__: expected an object of strings`);
  const wrong = Object.keys(value).find((key) => typeof value[key] !== "string");
  check(wrong === undefined, "ERR_SWITCHYARD_FORMAT", () => `${source}: __metadata__: ${quote(wrong ?? "")}: expected a string`);
  return value as Record<string, string>;
}

/** A name from the file, short enough for a message. */
function quote(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}...` : name);
}

function tensorError(source: string, name: string, message: string): SwitchyardError {
  return new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: tensor ${quote(name)}: ${message}`, { details: { file: source, tensor: name } });
}

function storedTensor(name: string, value: Json, dataStart: number, source: string): StoredTensor {
  const require: (condition: boolean, message: () => string) => asserts condition = (condition, message) => {
    if (!condition) throw tensorError(source, name, message());
  };
  require(name.length <= maxNameBytes && Buffer.byteLength(name) <= maxNameBytes, () => `name: expected at most ${maxNameBytes} bytes`);
  require(isJsonObject(value), () => "expected an object with dtype, shape and data_offsets");
  const unknown = Object.keys(value).find((key) => key !== "dtype" && key !== "shape" && key !== "data_offsets");
  require(unknown === undefined, () => `${quote(unknown ?? "")}: unknown field; expected dtype, shape and data_offsets`);
  const { dtype, shape, data_offsets: offsets } = value;
  require(typeof dtype === "string" && Object.hasOwn(dtypeBits, dtype), () => `dtype: expected one of ${Object.keys(dtypeBits).join(", ")}, got ${shown(dtype)}`);
  require(isIntegers(shape) && shape.length <= maxDimensions, () => `shape: expected at most ${maxDimensions} integers, got ${shown(shape)}`);
  require(isIntegers(offsets) && offsets.length === 2, () => `data_offsets: expected two integers, got ${shown(offsets)}`);
  const [begin = 0, end = 0] = offsets;
  require(begin <= end, () => `data_offsets: expected begin <= end, got [${begin}, ${end}]`);
  const bytes = storedBytes(dtype as SafetensorsDtype, shape);
  require(bytes === end - begin, () => `data_offsets: expected ${bytes ?? "a whole number of"} bytes for ${dtype} [${shape.join(", ")}], got ${end - begin}`);
  return { dtype: dtype as SafetensorsDtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/** The parser has already refused negative, fractional and unsafe numbers. */
function isIntegers(value: Json | undefined): value is number[] {
  return Array.isArray(value) && value.every((n) => typeof n === "number");
}

function shown(value: Json | undefined): string {
  return value === undefined ? "nothing" : JSON.stringify(value).slice(0, 100);
}

type Tensors = readonly (readonly [string, StoredTensor])[];

/** No tensor ends beyond the file. */
function checkEnds(tensors: Tensors, dataStart: number, fileBytes: number, source: string): void {
  for (const [name, { begin, end }] of tensors) {
    if (end <= fileBytes) continue;
    const last = tensors.reduce((max, [, tensor]) => Math.max(max, tensor.end), end);
    throw tensorError(source, name, `data_offsets: expected begin <= end <= ${fileBytes - dataStart}, the bytes of data in the file, got [${begin - dataStart}, ${end - dataStart}]${cutShort(fileBytes, last)}`);
  }
}

/** Every byte of data belongs to exactly one tensor. */
function checkLayout(tensors: Tensors, dataStart: number, fileBytes: number, source: string): void {
  let at = dataStart;
  let previous = "";
  for (const [name, { begin, end }] of tensors) {
    check(begin >= at, "ERR_SWITCHYARD_FORMAT", () => `${source}: tensor ${quote(name)}: data_offsets: overlaps tensor ${quote(previous)}`);
    check(begin === at, "ERR_SWITCHYARD_FORMAT", () => `${source}: tensor ${quote(name)}: data_offsets: the ${begin - at} bytes before it belong to no tensor`);
    at = end;
    previous = name;
  }
  check(at === fileBytes, "ERR_SWITCHYARD_FORMAT", () => `${source}: data: the last ${fileBytes - at} bytes of the file belong to no tensor`);
}
