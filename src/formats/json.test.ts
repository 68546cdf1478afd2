import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SwitchyardError } from "../errors.js";
import { type JsonLimits, type JsonObject, parseJson, stringifyJson } from "./json.js";

const parse = (text: string, limits?: JsonLimits) => parseJson(new TextEncoder().encode(text), "x.json", limits);

describe("parseJson", () => {
  it("agrees with JSON.parse on what JSON.stringify writes", () => {
    const values = fc.jsonValue({ depthSize: "medium", stringUnit: "binary" });
    fc.assert(
      fc.property(values, fc.constantFrom(0, 2), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        fc.pre(!text.includes("__proto__") && !/\\ud[89a-f]/i.test(text));
        expect(parse(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it("accepts only what JSON.parse accepts", () => {
    const pieces = fc.constantFrom("{", "}", "[", "]", ",", ":", '"a"', '"b"', "0", "-1", "01", "1e5", "1.", ".5", "true", "nul", " ", "\n", '"\\', '\\u00"', "'");
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 8 }), (parts) => {
        const text = parts.join("");
        const ours = attempt(() => parse(text));
        const theirs = attempt(() => JSON.parse(text) as unknown);
        if (ours.error === undefined) expect(ours.value).toEqual(theirs.value);
        else if (theirs.error === undefined) expect(ours.error.message).toMatch(/duplicate key|finite number/);
      }),
      { numRuns: 3000 },
    );
  });

  it.each<[string, string, string, JsonLimits?]>([
    ["duplicate key", '{"a":{"b":1,"b":2}}', "x.json: a.b: duplicate key (line 1, column 16)"],
    ["duplicate key behind an escape", '{"a":1,"\\u0061":2}', "x.json: a: duplicate key"],
    ["__proto__", '{"a":{"__proto__":{}}}', 'x.json: a: the key "__proto__" is not allowed'],
    ["escaped __proto__", '{"\\u005f_proto__":{}}', '"__proto__" is not allowed'],
    ["depth", "[[[[1]]]]", "x.json: 0.0.0: nested deeper than 3", { maxDepth: 3 }],
    ["size", "[1,2,3]", "expected at most 3 bytes", { maxBytes: 3 }],
    ["trailing comma", '{"a":1,}', "expected a key in double quotes"],
    ["two values", "{} {}", "expected nothing after the value"],
    ["nothing", "", "x.json: expected JSON, it is empty; copy or download it again"],
    ["spaces", " \n", "x.json: expected JSON, it is empty; copy or download it again"],
    ["an object cut off", '{"a":{"b":1', 'x.json: a: expected "," or "}" (line 1, column 12); the text ends in the middle, so it is incomplete or cut short: copy or download it again'],
    ["byte order mark", "\ufeff{}", "expected a value"],
    ["control character", '"a\nb"', "control character"],
    ["unfinished string", '{"a', "string without an end"],
    ["unfinished escape", '"a\\', "string without an end"],
    ["bad escape", '"\\x41"', "bad escape"],
    ["lone surrogate", '"\\ud800"', "lone surrogate"],
    ["not a number", "[NaN]", "x.json: 0: expected a value"],
    ["infinite", "[1e999]", "x.json: 0: expected a finite number, got 1e999"],
    ["negative", '{"shape":[-1]}', "x.json: shape.0: expected a non-negative integer", { integersOnly: true }],
    ["float", "[1.0]", "non-negative integer", { integersOnly: true }],
    ["exponent", "[1e3]", "non-negative integer", { integersOnly: true }],
    ["unsafe", "[9007199254740993]", "non-negative integer", { integersOnly: true }],
    ["line and column", '{\n "a": 1\n "b": 2}', '(line 3, column 2)'],
  ])("refuses %s", (_, text, message, limits) => {
    const { error } = attempt(() => parse(text, limits));
    expect(error?.code).toBe("ERR_SWITCHYARD_FORMAT");
    expect(error?.message).toContain(message);
  });

  it("says of a text cut anywhere that it is cut, and of no other", () => {
    const text = new TextEncoder().encode('{"a": [1.5, -2e+3, true, false, null], "\u00e9\\n": {"\u4e2d": "\ud83d\ude00"}}');
    for (let length = 1; length < text.length; length++) {
      expect(attempt(() => parseJson(text.subarray(0, length), "x.json")).error?.message, `${length} bytes`).toMatch(/; the text ends in the middle, .*: copy or download it again$/);
    }
    for (const other of ['{"a":1}}', "[1 2]", "[nul]", '{"a":1,"a"', '"\\ud800"']) expect(attempt(() => parse(other)).error?.message, other).toMatch(/\)$/);
  });

  it("refuses text that is not UTF-8", () => {
    expect(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22), "x.json")).toThrow("not valid UTF-8");
    expect(() => parseJson(Uint8Array.of(0x7b, 0x7d, 0xc3), "x.json")).toThrow("not valid UTF-8");
  });
});

function attempt(action: () => unknown): { value?: unknown; error?: SwitchyardError } {
  try {
    return { value: action() };
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof SwitchyardError) return { error: error as SwitchyardError };
    throw error;
  }
}

describe("stringifyJson", () => {
  it("writes whole floats as they were read, wherever they stand", () => {
    const text = '{"a":1.0,"b":1,"c":{"d":[0.0,2,-3.0],"e":1e3},"f":0.5,"g":"1.0","h":1e300}';
    const again = stringifyJson(parse(text) as JsonObject);
    expect(again.replaceAll(/\s/g, "")).toBe('{"a":1.0,"b":1,"c":{"d":[0.0,2,-3.0],"e":1000.0},"f":0.5,"g":"1.0","h":1e+300}');
  });

  it("a copy of the top level takes its spelling from the original", () => {
    const read = parse('{"a":1.0,"b":{"c":2.0}}') as JsonObject;
    expect(JSON.parse(stringifyJson({ ...read, d: 4 }, read))).toEqual({ a: 1, b: { c: 2 }, d: 4 });
    expect(stringifyJson({ ...read, d: 4 }, read).replaceAll(/\s/g, "")).toBe('{"a":1.0,"b":{"c":2.0},"d":4}');
    expect(stringifyJson({ a: 1 })).toBe('{\n  "a": 1\n}');
  });
});
