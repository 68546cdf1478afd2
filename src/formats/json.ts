import type { z } from "zod";
import { SwitchyardError } from "../errors.js";
import { readFileUpTo } from "./io.js";
import { type Json, type JsonObject, JsonParser, wholeFloats } from "./json-parser.js";

export type { Json, JsonObject } from "./json-parser.js";

export interface JsonLimits {
  /** Default 16 MiB. */
  maxBytes?: number;
  /** Nested objects and arrays; default 32. */
  maxDepth?: number;
  /** Refuse every number that is not a plain non-negative integer up to 2^53 - 1. */
  integersOnly?: boolean;
}

const defaultMaxBytes = 2 ** 24;

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `value` as `schema` describes it. Throws ERR_SWITCHYARD_FORMAT naming `source` and the first field that does not conform. */
export function conform<T>(schema: z.ZodType<T>, value: Json, source: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: ${issue?.path.join(".")}: ${issue?.message}`);
}

/** Reads a JSON file as `parseJson` does. Throws ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_IO naming the file. */
export function readJsonFile(path: string, limits: JsonLimits = {}): Json {
  return parseJson(readFileUpTo(path, limits.maxBytes ?? defaultMaxBytes), path, limits);
}

/**
 * JSON of `value` for people, in which numbers that `parseJson` read as "1.0" are so again: readers in typed languages refuse 1 where they
 * expect a float. `like`: whose numbers the top level has, where it is a copy.
 */
export function stringifyJson(value: JsonObject, like: JsonObject = value): string {
  function spell(this: object, key: string, x: unknown): unknown {
    const whole = typeof x === "number" && Number.isInteger(x) && wholeFloats.get(this === value ? like : this)?.has(key) === true;
    return whole && !String(x).includes("e") ? `${mark}${x}.0` : x;
  }
  return JSON.stringify(value, spell, 2).replaceAll(new RegExp(`"${mark}(-?\\d+\\.0)"`, "g"), "$1");
}

/** `object`, of which `stringifyJson` writes these numbers as floats. */
export function withFloats(object: JsonObject, keys: readonly string[]): JsonObject {
  wholeFloats.set(object, new Set([...(wholeFloats.get(object) ?? []), ...keys]));
  return object;
}

/** A character that JSON.stringify writes as it is, and that no checkpoint's config has in a string (private use). */
const mark = "\uf8ff";

/**
 * Parses JSON (RFC 8259) from a source that may be hostile. `JSON.parse` keeps the last of two equal keys, nests without
 * limit and does not say where it failed; this one refuses duplicate keys, `__proto__`, text that is not UTF-8, lone
 * surrogates and deep nesting, and names `source`, line, column and the path of keys. Throws ERR_SWITCHYARD_FORMAT.
 */
export function parseJson(bytes: Uint8Array, source: string, limits: JsonLimits = {}): Json {
  const { maxBytes = defaultMaxBytes, maxDepth = 32, integersOnly = false } = limits;
  if (bytes.length > maxBytes) throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: expected at most ${maxBytes} bytes of JSON, got ${bytes.length}`);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const decode = (part: Uint8Array, stream: boolean): string => {
    try {
      return decoder.decode(part, { stream });
    } catch (cause) {
      throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: the JSON text is not valid UTF-8`, { cause });
    }
  };
  // Of a text that was cut within a character the parser says so.
  const value = new JsonParser(decode(bytes, true), source, maxDepth, integersOnly).parse();
  decode(new Uint8Array(), false);
  return value;
}
