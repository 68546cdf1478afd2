import { SwitchyardError } from "../../errors.js";

/** Id and bytes of a metadata value's type; strings and arrays carry their length, so theirs is the least that they take. */
export const valueTypes = {
  u8: { id: 0, bytes: 1 }, i8: { id: 1, bytes: 1 }, u16: { id: 2, bytes: 2 }, i16: { id: 3, bytes: 2 }, u32: { id: 4, bytes: 4 }, i32: { id: 5, bytes: 4 },
  f32: { id: 6, bytes: 4 }, bool: { id: 7, bytes: 1 }, string: { id: 8, bytes: 8 }, array: { id: 9, bytes: 12 }, u64: { id: 10, bytes: 8 },
  i64: { id: 11, bytes: 8 }, f64: { id: 12, bytes: 8 },
} as const;

export type GgufValueType = keyof typeof valueTypes;

interface GgufScalar {
  readonly type: Exclude<GgufValueType, "array">;
  /** A bigint for u64 and i64. */
  readonly value: number | bigint | boolean | string;
}

export interface GgufArray {
  readonly type: "array";
  readonly of: GgufValueType;
  /** Numbers are in a typed array of their width, booleans in one of bytes. */
  readonly value: readonly string[] | readonly GgufArray[] | ArrayLike<number> | ArrayLike<bigint>;
}

export type GgufValue = GgufScalar | GgufArray;

/** The key-value part of a file, with getters that check types. Without a fallback a missing key is an error. All throw ERR_SWITCHYARD_FORMAT naming file and key. */
export class GgufMetadata {
  constructor(
    readonly entries: ReadonlyMap<string, GgufValue>,
    /** What errors call the file. */
    readonly source: string,
  ) {}

  has(key: string): boolean {
    return this.entries.has(key);
  }

  string(key: string, fallback?: string): string {
    return this.typed(key, "a string", fallback, ({ value }) => (typeof value === "string" ? value : undefined));
  }

  /** A non-negative integer up to 2^53 - 1, of any integer type. */
  integer(key: string, fallback?: number): number {
    return this.typed(key, "a non-negative integer", fallback, ({ type, value }) => {
      if (type === "f32" || type === "f64" || (typeof value !== "number" && typeof value !== "bigint")) return undefined;
      const n = Number(value);
      return Number.isSafeInteger(n) && n >= 0 ? n : undefined;
    });
  }

  number(key: string, fallback?: number): number {
    return this.typed(key, "a finite number", fallback, ({ value }) => {
      const n = typeof value === "number" || typeof value === "bigint" ? Number(value) : Number.NaN;
      return Number.isFinite(n) ? n : undefined;
    });
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.typed(key, "a boolean", fallback, ({ value }) => (typeof value === "boolean" ? value : undefined));
  }

  /** The first `count` elements of an array of non-negative integers, or of booleans as 0 and 1; undefined for a key that is missing, or no array. */
  array(key: string, count: number): number[] | undefined {
    if (this.entries.get(key)?.type !== "array") return undefined;
    return this.typed(key, `an array of at least ${count} non-negative integers or booleans`, undefined, (found) => {
      if (found.type !== "array" || found.value.length < count || ["string", "array", "f32", "f64"].includes(found.of)) return undefined;
      const list = Array.from({ length: count }, (_, i) => Number(found.value[i]));
      return list.every((n) => Number.isSafeInteger(n) && n >= 0) ? list : undefined;
    });
  }

  /** An array of f32 of this length; undefined for a key that is missing. */
  floats(key: string, count: number): Float32Array | undefined {
    if (!this.entries.has(key)) return undefined;
    return this.typed(key, `an array of ${count} f32`, undefined, ({ value }) => (value instanceof Float32Array && value.length === count ? value : undefined));
  }

  private typed<T>(key: string, expected: string, fallback: T | undefined, convert: (value: GgufValue) => T | undefined): T {
    const found = this.entries.get(key);
    const value = found === undefined ? fallback : convert(found);
    if (value !== undefined) return value;
    const got = found === undefined ? "the key is missing" : `got ${found.type === "array" ? `an array of ${found.of}` : `${found.type} ${String(found.value).slice(0, 100)}`}`;
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${this.source}: metadata ${JSON.stringify(key)}: expected ${expected}, ${got}`, { details: { file: this.source, key } });
  }
}
