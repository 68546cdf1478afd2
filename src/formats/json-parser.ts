import { SwitchyardError } from "../errors.js";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

/** For each parsed object or array, the keys or indices of whole numbers that its text writes as floats, such as "1.0". */
export const wholeFloats = new WeakMap<object, Set<string>>();

const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const word = /true|false|null/y;
/** What the end of a text may have left of a word or a number. */
const partial = /(?:-|[.eE][-+]?|tr?u?|fa?l?s?|nu?l?)?$/y;
const words = { true: true, false: false, null: null } as const;

/** One pass over a JSON text (RFC 8259) that may be hostile; throws ERR_SWITCHYARD_FORMAT. */
export class JsonParser {
  private at = 0;
  /** Keys and indices from the root to the value now read. */
  private readonly path: (string | number)[] = [];
  /** Whether the value just read was a whole number written with a point or an exponent. */
  private wholeFloat = false;

  constructor(
    private readonly text: string,
    private readonly source: string,
    private readonly maxDepth: number,
    private readonly integersOnly: boolean,
  ) {}

  parse(): Json {
    this.space();
    if (this.at === this.text.length) throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${this.source}: expected JSON, it is empty; copy or download it again`);
    const value = this.value();
    this.space();
    if (this.at < this.text.length) this.fail("expected nothing after the value");
    return value;
  }

  private value(): Json {
    this.space();
    const c = this.text[this.at];
    if (c === "{" || c === "[") {
      if (this.path.length >= this.maxDepth) this.fail(`nested deeper than ${this.maxDepth}`);
      this.at++;
      return c === "{" ? this.object() : this.array();
    }
    if (c === '"') return this.string();
    const literal = this.match(word);
    return literal === undefined ? this.number() : words[literal as keyof typeof words];
  }

  private object(): JsonObject {
    const object: JsonObject = {};
    if (this.skip("}")) return object;
    do {
      this.space();
      if (this.text[this.at] !== '"') this.missing("a key in double quotes");
      const key = this.string();
      if (key === "__proto__") this.fail('the key "__proto__" is not allowed');
      this.path.push(key);
      if (Object.hasOwn(object, key)) this.fail("duplicate key");
      if (!this.skip(":")) this.missing('":"');
      object[key] = this.value();
      this.noteFloat(object, key);
      this.path.pop();
    } while (this.skip(","));
    if (!this.skip("}")) this.missing('"," or "}"');
    return object;
  }

  private array(): Json[] {
    const array: Json[] = [];
    if (this.skip("]")) return array;
    do {
      this.path.push(array.length);
      array.push(this.value());
      this.noteFloat(array, array.length - 1);
      this.path.pop();
    } while (this.skip(","));
    if (!this.skip("]")) this.missing('"," or "]"');
    return array;
  }

  private string(): string {
    const { text } = this;
    const start = this.at;
    let escaped = false;
    let at = start + 1;
    for (let c = text.charCodeAt(at); c !== 34; c = text.charCodeAt(++at)) {
      // charCodeAt is NaN beyond the end.
      if (!(c >= 32)) this.fail(at < text.length ? "control character in a string" : "string without an end", at >= text.length);
      if (c === 92) {
        escaped = true;
        at++;
      }
    }
    this.at = at + 1;
    if (!escaped) return text.slice(start + 1, at);
    let value = "";
    try {
      value = JSON.parse(text.slice(start, at + 1)) as string;
    } catch {
      this.fail("bad escape in a string");
    }
    if (/\p{Surrogate}/u.test(value)) this.fail("lone surrogate in a string");
    return value;
  }

  private number(): number {
    const digits = this.match(number);
    if (digits === undefined) this.missing("a value");
    const value = Number(digits);
    const fits = this.integersOnly ? /^[0-9]+$/.test(digits) && Number.isSafeInteger(value) : Number.isFinite(value);
    if (!fits) this.fail(`expected ${this.integersOnly ? "a non-negative integer up to 2^53 - 1" : "a finite number"}, got ${digits.slice(0, 40)}`);
    this.wholeFloat = Number.isInteger(value) && /[.eE]/.test(digits);
    return value;
  }

  /** Remembers how the number just read into `holder` was spelled. */
  private noteFloat(holder: Json[] | JsonObject, key: string | number): void {
    if (!this.wholeFloat) return;
    this.wholeFloat = false;
    const keys = wholeFloats.get(holder) ?? new Set();
    wholeFloats.set(holder, keys.add(String(key)));
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }

  /** Steps over space and `c`, if it is next. */
  private skip(c: string): boolean {
    this.space();
    if (this.text[this.at] !== c) return false;
    this.at++;
    return true;
  }

  private space(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.at);
      if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return;
      this.at++;
    }
  }

  /** Another thing is here, or the text was cut before it. */
  private missing(what: string): never {
    partial.lastIndex = this.at;
    this.fail(`expected ${what}`, partial.test(this.text));
  }

  private fail(what: string, isCut = false): never {
    const before = this.text.slice(0, this.at).split("\n");
    const place = `line ${before.length}, column ${(before.at(-1) ?? "").length + 1}`;
    const field = this.path.map((key) => String(key).slice(0, 100)).join(".");
    const remedy = isCut ? "; the text ends in the middle, so it is incomplete or cut short: copy or download it again" : "";
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${this.source}: ${field === "" ? "" : `${field}: `}${what} (${place})${remedy}`, { details: { field } });
  }
}
