import { isDeepStrictEqual } from "node:util";
import { parseJson } from "../../src/formats/json.js";
import { chance, mutateBytes } from "./mutate.js";
import { randomJson, writeJson } from "./json-text.js";
import { accepted, ensure, type Target } from "./target.js";

const alphabet = new TextEncoder().encode('{}[]",:0123456789-+.eE\\u ntf\n');
const encoder = new TextEncoder();

/** What `JSON.parse` takes and this parser does not. */
const stricter = /duplicate key|"__proto__" is not allowed|expected a finite number|lone surrogate|nested deeper|not valid UTF-8/;

export const json: Target = {
  about: "JSON texts, against JSON.parse",
  run(random) {
    let bytes: Uint8Array = encoder.encode(writeJson(randomJson(random, 5), random, 0.02));
    if (chance(random, 0.5)) bytes = mutateBytes(bytes, random, alphabet);
    let reason = "";
    const read = () => {
      try {
        return { value: parseJson(bytes, "x.json") };
      } catch (error) {
        reason = (error as Error).message;
        throw error;
      }
    };
    const value = accepted(read, ["ERR_SWITCHYARD_FORMAT"], "x.json: ");
    const theirs = parseOrNothing(bytes);
    if (value === undefined) ensure(theirs === undefined || stricter.test(reason), `JSON.parse takes it, we do not: ${reason}`);
    else ensure(theirs !== undefined && isDeepStrictEqual(theirs.value, value.value), "JSON.parse reads something else, or nothing");
    return value !== undefined;
  },
};

function parseOrNothing(bytes: Uint8Array): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)) as unknown };
  } catch {
    return undefined;
  }
}
