import { expect } from "vitest";
import { type ErrorCode, SwitchyardError } from "../src/errors.js";
import { isJsonObject, type Json, type JsonObject } from "../src/formats/json.js";

/** One of each kind, as a number none that counts anything. */
const values: readonly Json[] = ["x", -1.5, true, [], {}];
const kindOf = (value: Json): string => (Array.isArray(value) ? "array" : value === null ? "null" : typeof value);

interface Wrong {
  /** Of the field, as errors write it: "model.vocab", "added_tokens.0.id". */
  path: string;
  /** What it says. */
  value: Json;
  json: JsonObject;
}

/**
 * Copies of `json`, each with a value of another kind in one place, or a negative fraction for a number. Of arrays and of maps, whose first key
 * is in `maps`, only the first place is taken.
 */
export function withWrongValues(json: JsonObject, maps: readonly string[] = []): Wrong[] {
  return Object.entries(json).slice(0, maps.includes("") ? 1 : undefined).flatMap(([key, old]) => {
    const replaced = values.filter((value) => kindOf(value) !== kindOf(old) || kindOf(old) === "number");
    const here = replaced.map((value): Wrong => ({ path: key, value, json: { ...json, [key]: value } }));
    const inner = maps.filter((path) => path.split(".")[0] === key).map((path) => path.slice(key.length + 1));
    const below = isJsonObject(old) ? withWrongValues(old, inner).map((wrong) => ({ ...wrong, path: `${key}.${wrong.path}`, json: { ...json, [key]: wrong.json } })) : [];
    return [...here, ...below, ...(Array.isArray(old) ? inArray(json, key, old) : [])];
  });
}

function inArray(json: JsonObject, key: string, [first, ...rest]: Json[]): Wrong[] {
  if (first === undefined) return [];
  return withWrongValues({ 0: first }).map((wrong) => ({ ...wrong, path: `${key}.${wrong.path}`, json: { ...json, [key]: [wrong.json["0"] as Json, ...rest] } }));
}

/** What refuses a file, or undefined if it is taken. Fails for an error of another kind, and one that took more than 250 ms of the processor. */
export function refusal(read: () => unknown, codes: readonly ErrorCode[]): string | undefined {
  const start = process.cpuUsage();
  try {
    read();
    return undefined;
  } catch (error) {
    if (!(error instanceof SwitchyardError) || !codes.includes(error.code)) throw error;
    expect(error.message.length).toBeLessThan(2000);
    return error.message;
  } finally {
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1000, "milliseconds").toBeLessThan(250);
  }
}
