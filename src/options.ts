import { check } from "./errors.js";

/**
 * Throws ERR_SWITCHYARD_USAGE unless `options` is an object with keys of `known` alone: what is misspelled would be ignored. `subject`: the call, or the option
 * of one, which the message begins with.
 */
export function checkOptions<T extends object>(subject: string, options: T, known: Readonly<Record<keyof T, true>>): void {
  check(typeof options === "object" && options !== null, "ERR_SWITCHYARD_USAGE", () => `${subject}: expected an object of options, got ${show(options)}`);
  for (const key of Object.keys(options)) {
    if (Object.hasOwn(known, key)) continue;
    const names = Object.keys(known);
    const guess = nearest(key, names);
    check(false, "ERR_SWITCHYARD_USAGE", () => `${subject}: unknown option "${key}"; ${guess === undefined ? `known are ${names.join(", ")}` : `did you mean ${guess}?`}`);
  }
}

/** Throws ERR_SWITCHYARD_USAGE unless `path` may be one. */
export function checkPath(subject: string, path: unknown): void {
  check(typeof path === "string" && path !== "", "ERR_SWITCHYARD_USAGE", () => `${subject}: expected the path of a file or folder, got ${show(path)}`);
}

/** A value as messages have it: numbers as they are, texts in quotes, of long ones the beginning. */
export function show(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (ArrayBuffer.isView(value)) return value.constructor.name;
  return (JSON.stringify(value) ?? String(value)).slice(0, 200);
}

/** The known word that differs least from a misspelled one, if it is near enough to be meant. Case and dashes do not count. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[-_]/g, "");
  const ranked = known.map((name) => ({ name, edits: editDistance(plain(word), plain(name)) })).sort((a, b) => a.edits - b.edits);
  const [best] = ranked;
  return best !== undefined && best.edits <= Math.max(1, Math.floor(0.4 * word.length)) ? best.name : undefined;
}

/** Insertions, deletions and replacements that turn `a` into `b` (Levenshtein 1966). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, (row[j - 1] as number) + Number(a[i - 1] !== b[j - 1]));
    }
    row = next;
  }
  return row[b.length] as number;
}
