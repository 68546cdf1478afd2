import type { Json } from "../../src/formats/json.js";
import type { Random } from "../../src/tensor/random.js";
import { chance, edge, pick } from "./mutate.js";

const words = ["a", "b", "", "__proto__", "constructor", "toString", "0", "1", "weight", "\u00e9", "\u{1f642}", "\ud800", "x\ny", '"', "\\", "\u0000"];
const numbers = ["0", "-0", "1", "-1", "1.5", "1e3", "1e400", "-1e-400", "01", "+1", ".5", "5.", "1e", "0x10", "NaN", "9007199254740993"];
const junk = ["", ",", ":", "{", "}", "[", "]", '"', "null", "true", "nul", " ", "\t", "\n", "\\u00", "\ufeff", "//x", "'a'"];

/** Writes a value as JSON, wrongly in about one place of `1 / rate`. */
export function writeJson(value: Json, random: Random, rate: number): string {
  const wrong = () => chance(random, rate);
  const space = () => (chance(random, 0.05) ? pick(random, [" ", "\n", "\t", "\r\n"]) : "");
  const write = (v: Json): string => {
    if (wrong()) return pick(random, [() => pick(random, junk), () => pick(random, numbers), () => edge(random).toString(), () => text(pick(random, words)), () => `${"[".repeat(random.below(40))}`])();
    if (Array.isArray(v)) return `[${space()}${list(v.map(write))}]`;
    if (typeof v === "object" && v !== null) {
      const members = Object.entries(v).map(([key, member]) => `${text(wrong() ? pick(random, words) : key)}${space()}:${space()}${write(member)}`);
      return `{${list(members)}}`;
    }
    return typeof v === "string" ? text(v) : JSON.stringify(v);
  };
  const list = (items: string[]): string => {
    if (items.length > 0 && wrong()) items.splice(random.below(items.length), random.below(2), pick(random, items));
    return items.join(wrong() ? pick(random, junk) : `${space()},${space()}`);
  };
  const text = (s: string): string => (wrong() ? `"${s}\\${pick(random, ["u0061", "ud800", "x", "n", '"', ""])}"` : JSON.stringify(s));
  return write(value);
}

/** A value of `depth` levels at most. */
export function randomJson(random: Random, depth: number): Json {
  const kind = random.below(depth > 0 ? 8 : 6);
  const items = () => Array.from({ length: random.below(5) });
  if (kind === 6) return items().map(() => randomJson(random, depth - 1));
  if (kind === 7) return Object.fromEntries(items().map(() => [pick(random, words), randomJson(random, depth - 1)]));
  return pick<Json>(random, [null, true, false, pick(random, words), random.below(2 ** 32), random.float() * 2 ** (random.below(200) - 100)]);
}
