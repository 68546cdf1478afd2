import { type Command, InvalidArgumentError, Option } from "commander";
import { z } from "zod";
import { mostThreads } from "../engine/native-memory.js";
import { nearest } from "../options.js";

/** learningRate -> learning-rate */
export const flagName = (key: string): string => key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** One flag per field of a schema; the flag's value is left under the field's name. `rename` gives a flag another name than its field's, or two. */
export function addSchemaFlags(command: Command, shape: Readonly<Record<string, z.ZodType>>, group: string, rename: Readonly<Record<string, string>> = {}): void {
  command.optionsGroup(group);
  for (const [key, schema] of Object.entries(shape)) {
    const flag = rename[key] ?? flagName(key);
    const { kind, choices, fallback, meaning = flag.replaceAll("-", " ") } = inspectField(schema);
    const description = `${meaning}${fallback === undefined ? "" : ` (default: ${fallback})`}`;
    const option = new Option(kind === "boolean" ? `--${flag}` : `--${flag} <${kind === "number" ? "n" : "name"}>`, description);
    if (kind === "number") option.argParser(parseNumber);
    if (choices !== undefined) option.choices(choices);
    command.addOption(option);
  }
}

/** A finite number in decimal digits; ranges are the schema's business. */
export function parseNumber(text: string): number {
  const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : NaN;
  if (!Number.isFinite(value)) throw new InvalidArgumentError("Expected a decimal number, such as 200, 0.5 or 1e-3.");
  return value;
}

/** A number above 0, or of at least 0. */
export const parsePositive = (text: string): number => ranged(text, (value) => value > 0, "above 0");
export const parseNotNegative = (text: string): number => ranged(text, (value) => value >= 0, "of at least 0");

function ranged(text: string, holds: (value: number) => boolean, range: string): number {
  const value = parseNumber(text);
  if (!holds(value)) throw new InvalidArgumentError(`Expected a number ${range}.`);
  return value;
}

interface Field {
  kind: "number" | "boolean" | "string";
  choices?: string[];
  fallback?: unknown;
  meaning?: string | undefined;
}

function inspectField(schema: z.ZodType): Field {
  const meaning = schema.description;
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault) {
    const inner = inspectField(schema.unwrap() as z.ZodType);
    return { ...inner, meaning: meaning ?? inner.meaning, ...(schema instanceof z.ZodDefault ? { fallback: schema.def.defaultValue } : {}) };
  }
  if (schema instanceof z.ZodNumber) return { kind: "number", meaning };
  if (schema instanceof z.ZodBoolean) return { kind: "boolean", meaning };
  if (schema instanceof z.ZodEnum) return { kind: "string", choices: schema.options.map(String), meaning };
  return { kind: "string", meaning };
}

/** A command with what all share: --json, and examples below its help. */
export function describeCommand(command: Command, description: string, examples: readonly string[]): Command {
  const width = Math.max(...examples.map((line) => line.indexOf("#")));
  const lines = examples.map((line) => {
    const [call = "", why] = line.split("#");
    return `  ${why === undefined ? call : `${call.trimEnd().padEnd(width)} ${why.trim()}`}`;
  });
  return command
    .description(description)
    .option("--json", "print one JSON document on stdout and nothing else there")
    .addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}

const units: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

/** "6GiB" or "6G", "2200MB", or a number of bytes. */
export function parseBytes(text: string): number {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?) ?(?:([KMGT]B?|[KMGT]iB)|B)?$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(digits) * (units[unit.replace(/iB/i, "").toUpperCase()] ?? NaN));
  if (!Number.isSafeInteger(bytes)) throw new InvalidArgumentError('Expected a size as in "6GiB" or "2200MB".');
  return bytes;
}

/** `--type`: one of `types`, in capitals or not, as programs that make GGUF files differ in that. */
export function typeOption(description: string, types: readonly string[], fallback: string): Option {
  const names = types.map((name) => name.toLowerCase());
  return new Option("--type <name>", description).choices(names).default(fallback).argParser((text) => {
    const name = text.toLowerCase();
    if (names.includes(name)) return name;
    const guess = nearest(name, names); // q4_k for q4_k_m, which mixes it with others
    throw new InvalidArgumentError(`${guess === undefined ? "" : `Did you mean ${guess}? `}Allowed choices are ${names.join(", ")}.`);
  });
}

const parseThreads = (text: string): number => ranged(text, (n) => Number.isInteger(n) && n >= 1 && n <= mostThreads, `of threads from 1 to ${mostThreads}`);

/** Arguments of `argument` and of `option`, for commands that run a model. */
export const modelArgument = ["<model>", "folder of a model, or a .gguf file (of a split one, the first)"] as const;
export const memoryOption = ["--memory <size>", 'memory for the whole process, as in "6GiB": experts that do not fit are read from the file when they are needed', parseBytes] as const;
export const threadsOption = ["-t, --threads <n>", "compute threads (default: one per core)", parseThreads] as const;
