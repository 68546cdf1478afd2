import type { Cursor } from "./cursor.js";
import { type GgufArray, type GgufValue, type GgufValueType, valueTypes } from "./metadata.js";

const maxStringBytes = 16 * 2 ** 20;
const maxArrayElements = 64 * 2 ** 20;
const maxNesting = 4;

const typeOf: ReadonlyMap<number, GgufValueType> = new Map(Object.entries(valueTypes).map(([name, { id }]) => [id, name as GgufValueType]));

const arrays = {
  u8: Uint8Array, i8: Int8Array, u16: Uint16Array, i16: Int16Array, u32: Uint32Array, i32: Int32Array, f32: Float32Array, bool: Uint8Array,
  u64: BigUint64Array, i64: BigInt64Array, f64: Float64Array,
} as const;

type Numbers = ArrayLike<number> | ArrayLike<bigint>;

/** A value after its type. */
export function readValue(cursor: Cursor): GgufValue {
  const type = readType(cursor);
  if (type === "array") return readArray(cursor, 1);
  if (type === "string") return { type, value: cursor.string(maxStringBytes) };
  const value = readNumbers(cursor, type, 1)[0] as number | bigint;
  return { type, value: type === "bool" ? value === 1 : value };
}

function readType(cursor: Cursor): GgufValueType {
  const id = cursor.u32();
  return typeOf.get(id) ?? cursor.fail(`expected a value type from 0 to 12, got ${id}`);
}

function readArray(cursor: Cursor, depth: number): GgufArray {
  if (depth > maxNesting) cursor.fail(`arrays are nested deeper than ${maxNesting}`);
  const of = readType(cursor);
  const count = cursor.u64();
  cursor.checkRoom(count, `elements of ${of}`, maxArrayElements, valueTypes[of].bytes);
  if (of === "array") return { type: "array", of, value: Array.from({ length: count }, () => readArray(cursor, depth + 1)) };
  if (of === "string") return { type: "array", of, value: Array.from({ length: count }, () => cursor.string(maxStringBytes)) };
  return { type: "array", of, value: readNumbers(cursor, of, count) };
}

function readNumbers(cursor: Cursor, type: keyof typeof arrays, count: number): Numbers {
  const numbers = new arrays[type](cursor.take(count * valueTypes[type].bytes).buffer);
  if (type === "bool" && (numbers as Uint8Array).some((byte) => byte > 1)) cursor.fail("expected booleans to be 0 or 1");
  return numbers;
}

/** The bytes of a value after those of its type. */
export function encodeValue(value: GgufValue): Uint8Array[] {
  return [encodeU32(valueTypes[value.type].id), ...encodePayload(value)];
}

function encodePayload(value: GgufValue): Uint8Array[] {
  if (value.type === "string") return encodeString(value.value as string);
  if (value.type !== "array") return [encodeNumbers(value.type, [value.value as number])];
  const { of } = value;
  const head = [encodeU32(valueTypes[of].id), encodeU64(value.value.length)];
  if (of === "array") return [...head, ...(value.value as readonly GgufArray[]).flatMap(encodePayload)];
  if (of === "string") return [...head, ...(value.value as readonly string[]).flatMap(encodeString)];
  return [...head, encodeNumbers(of, value.value as Numbers)];
}

function encodeNumbers(type: keyof typeof arrays, numbers: Numbers): Uint8Array {
  const list = Array.from<number | bigint>(numbers as ArrayLike<number>);
  const array = type === "u64" || type === "i64" ? arrays[type].from(list.map(BigInt)) : arrays[type].from(list.map(Number));
  return new Uint8Array(array.buffer);
}

export function encodeU32(n: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(n).buffer);
}

export function encodeU64(n: number): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(n)).buffer);
}

export function encodeString(text: string): Uint8Array[] {
  const bytes = new TextEncoder().encode(text);
  return [encodeU64(bytes.length), bytes];
}
