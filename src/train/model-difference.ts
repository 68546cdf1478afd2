import { isDeepStrictEqual } from "node:util";
import type { ModelConfig } from "../model/config.js";

/** Where a model's config first differs from `stored`, which may come from a file: "moe.active: 3, not 2". Where it was published makes no difference. */
export function modelDifference(given: ModelConfig, stored: unknown): string | undefined {
  const plain = (config: unknown) => JSON.parse(JSON.stringify({ ...(config as ModelConfig), published: undefined })) as Record<string, unknown>;
  return difference(plain(given), plain(stored), []);
}

function difference(a: Record<string, unknown>, b: Record<string, unknown>, path: readonly string[]): string | undefined {
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
  const name = Object.keys({ moe: 0, ...a, ...b }).find((key) => !isDeepStrictEqual(a[key], b[key]));
  if (name === undefined) return undefined;
  const [given, stored] = [a[name], b[name]];
  if (isObject(given) && isObject(stored)) return difference(given, stored, [...path, name]);
  const brief = (value: unknown) => (value === undefined ? "none" : isObject(value) ? "one" : JSON.stringify(value));
  return `${[...path, name].join(".")}: ${brief(given)}, not ${brief(stored)}`;
}
