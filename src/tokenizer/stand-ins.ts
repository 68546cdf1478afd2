import { check } from "../errors.js";
import type { Json } from "../formats/json.js";
import { anyOf } from "./vocabulary.js";

/** Characters that give special tokens their look. Quotes and backslashes are left out: templates write them as JSON has them. */
const mark = /[^\p{L}\p{N}_\s"'\\]/gu;
const maxDepth = 64;

/** A private-use character as a template that asks for ASCII writes it. */
const escape = /\\u([ef][0-9a-f]{3})/gi;
const fromHex = (hex: string): string => String.fromCharCode(Number.parseInt(hex, 16));

/** What of a text needs a stand-in, by the special tokens of a model and a template's code. */
export interface Guard {
  special: readonly string[];
  /** Marks that occur in special tokens; of one without any, its first letter. */
  marks: RegExp | undefined;
  /** Literals and names in the template's code. */
  words: ReadonlySet<string>;
  /** Literals with marks that no special token can share a character with. */
  sought: RegExp | undefined;
}

export function guardOf(special: readonly string[], words: readonly string[]): Guard {
  const literals = words.map((word) => word.trim()).filter((word) => word.match(mark) !== null && special.every((token) => !canOverlap(token, word)));
  const marks = new Set(special.flatMap((token) => token.match(mark) ?? [...token.trim()].slice(0, 1)));
  return { special, marks: anyOf(marks), words: new Set(words), sought: anyOf(new Set(literals)) };
}

/** Whether some text holds both in places that overlap. */
function canOverlap(a: string, b: string): boolean {
  if (a.includes(b) || b.includes(a)) return true;
  for (let n = 1; n < Math.min(a.length, b.length); n++) if (a.endsWith(b.slice(0, n)) || b.endsWith(a.slice(0, n))) return true;
  return false;
}

/**
 * Keeps users' text apart from a template's own: private-use characters that occur nowhere else stand for those of its characters
 * that special tokens need, so what the template then says in the plain characters of a special token is the template's own.
 *
 * - Every mark that occurs in a special token ("<", "|", ...) is replaced: no text brings one along, not even in parts that the
 *   template joins ("<|im_" and "end|>").
 * - A text that is a part of a special token ("s" of "<s>") is replaced whole, for a template may write "<" and ">" around it;
 *   unless it is a word of the template's code ("function"), which may be compared.
 * - What the code looks for, as "</think>", stays, unless a special token could be made with it.
 */
export class StandIns {
  private readonly forward = new Map<string, string>();
  private readonly back = new Map<string, string>();
  private readonly free: Iterator<string>;

  /** `texts`: everything that will be rendered. */
  constructor(
    private readonly guard: Guard,
    texts: string,
  ) {
    const escaped = Array.from(texts.matchAll(escape), ([, hex = ""]) => fromHex(hex));
    const used = new Set([...(texts.match(/[\ue000-\uf8ff]/g) ?? []), ...escaped]);
    this.free = Array.from({ length: 0xf900 - 0xe000 }, (_, i) => String.fromCharCode(0xe000 + i)).filter((character) => !used.has(character)).values();
  }

  /** `value` with stand-ins in every text and key. Throws ERR_SWITCHYARD_USAGE for what is not JSON. */
  hide(value: unknown, path: string, depth = 0): Json {
    check(depth < maxDepth, "ERR_SWITCHYARD_USAGE", () => `chat: ${path.slice(0, 100)}: nested deeper than ${maxDepth}`);
    if (typeof value === "string") return this.hideText(value);
    if (value === null || typeof value === "boolean" || (typeof value === "number" && Number.isFinite(value))) return value;
    if (Array.isArray(value)) return value.map((item, i) => this.hide(item, `${path}[${i}]`, depth + 1));
    check(typeof value === "object", "ERR_SWITCHYARD_USAGE", () => `chat: ${path}: expected a JSON value, got ${String(value)}`);
    const entries = Object.entries(value as object).filter(([, item]) => item !== undefined);
    return Object.fromEntries(entries.map(([key, item]) => [this.hideText(key), this.hide(item, `${path}.${key}`, depth + 1)]));
  }

  private hideText(text: string): string {
    const { special, marks, words, sought } = this.guard;
    const trimmed = text.trim();
    const isPart = trimmed !== "" && !words.has(text) && special.some((token) => token.includes(trimmed));
    const hide = (part: string) => (marks === undefined ? part : part.replaceAll(isPart ? /\S/gu : marks, (character) => this.standIn(character)));
    let [out, end] = ["", 0];
    for (const { index, 0: literal } of isPart || sought === undefined ? [] : text.matchAll(sought)) {
      out += hide(text.slice(end, index)) + literal;
      end = index + literal.length;
    }
    return out + hide(text.slice(end));
  }

  private standIn(character: string): string {
    const known = this.forward.get(character);
    if (known !== undefined) return known;
    const next = this.free.next();
    check(next.done !== true, "ERR_SWITCHYARD_DATA", () => "chat: the text uses nearly all private-use characters (U+E000 to U+F8FF); remove them");
    this.forward.set(character, next.value);
    this.back.set(next.value, character);
    return next.value;
  }

  /** Text with the characters again that stand-ins stand for. */
  show(text: string): string {
    if (this.back.size === 0) return text;
    return text.replaceAll(/[\ue000-\uf8ff]/g, (character) => this.back.get(character) ?? character).replaceAll(escape, (whole, hex: string) => this.back.get(fromHex(hex)) ?? whole);
  }
}
