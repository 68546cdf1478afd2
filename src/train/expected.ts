import { z } from "zod";

type Schema = z.core.JSONSchema.BaseSchema;

/** What the field at `path` takes, in words: "an integer of at least 1". The upper limit of all integers is named where `given` is above it. */
export function expected(schema: z.ZodType, path: readonly PropertyKey[], given: unknown): string {
  const words = alternatives(path.reduce<Schema>(field, z.toJSONSchema(schema, { io: "input" })), given);
  return [...(words.length > 1 ? [words.slice(0, -1).join(", ")] : []), words.at(-1)].join(" or ");
}

/** Of alternatives, the field of the first that has it. */
function field(schema: Schema, key: PropertyKey): Schema {
  const found = [schema, ...(schema.anyOf ?? [])].map((each) => (each as Schema).properties?.[String(key)] ?? (each as Schema).items);
  return (found.find((each) => each !== undefined) ?? {}) as Schema;
}

function alternatives(schema: Schema, given: unknown): string[] {
  const { anyOf, enum: choices, const: only, type, properties } = schema;
  if (anyOf !== undefined) return anyOf.flatMap((each) => alternatives(each as Schema, given));
  if (choices !== undefined) return choices.map(String);
  if (only !== undefined) return [String(only)];
  if (properties !== undefined) return [`a mapping (${Object.keys(properties).join(", ")})`];
  if (type === "integer" || type === "number") return [`${type === "integer" ? "an integer" : "a number"}${range(schema, given)}`];
  return type === "array" ? ["a list of at least one text"] : type === "boolean" ? ["true", "false"] : ["a text"];
}

function range({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }: Schema, given: unknown): string {
  const limits = [
    minimum === undefined ? "" : ` of at least ${minimum}`,
    exclusiveMinimum === undefined ? "" : ` above ${exclusiveMinimum}`,
    maximum === undefined || (maximum === Number.MAX_SAFE_INTEGER && !(Number(given) > maximum)) ? "" : ` at most ${maximum}`,
    exclusiveMaximum === undefined ? "" : ` below ${exclusiveMaximum}`,
  ];
  return limits.filter((limit) => limit !== "").join(" and");
}
