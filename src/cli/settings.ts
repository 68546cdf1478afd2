import { isUtf8 } from "node:buffer";
import { parse } from "yaml";
import { z } from "zod";
import { check, SwitchyardError } from "../errors.js";
import { readFileUpTo } from "../formats/io.js";
import { type ModelOptions, type MoeOptions, sizes } from "../model/presets.js";
import { balanceMethods } from "../routing/config.js";
import { routerConfig, type RouterPreset, routerPresets } from "../routing/presets.js";
import type { Balance, RouterConfig } from "../routing/types.js";
import { expected } from "../train/expected.js";
import { type TrainInput, trainSchema } from "../train/options.js";
import { trainingPresets } from "../train/presets.js";
import { checkPath, nearest, show } from "../options.js";

const count = z.number().int().min(1);
const names = <T extends object>(table: T) => Object.keys(table) as [keyof T & string, ...(keyof T & string)[]];

/** Coefficient of Fedus et al. 2021, bias step of Wang et al. 2024. */
const balanceDefaults = { coefficient: 0.01, rate: 0.001, update: "sign" } as const;

const routerSchema = z.strictObject({
  selection: z.string(),
  score: z.string(),
  weight: z.string(),
  normalize: z.strictObject({ eps: z.number(), p: z.number() }),
  scale: z.number(),
  groups: z.strictObject({ count, keep: count, score: z.string() }),
  bias: z.boolean(),
  selectionBias: z.boolean(),
  jitter: z.number(),
  capacity: z.strictObject({ train: z.number(), eval: z.number(), drop: z.string() }),
} satisfies Partial<Record<keyof RouterConfig, z.ZodType>>).partial();

export const moeSchema = z.strictObject({
  experts: count.describe("experts of a sparse layer"),
  active: count.describe("experts that each token uses"),
  hidden: count.describe("hidden width of one expert"),
  shared: z.number().int().min(0).describe("always-on experts"),
  sharedCombine: z.enum(["add", "sigmoid", "softmax"]).describe("how shared and routed output are combined"),
  router: z.union([z.enum(names(routerPresets)), routerSchema]).describe("router by name"),
  balance: z.union([z.enum(balanceMethods), z.strictObject({ method: z.enum(balanceMethods), coefficient: z.number().optional(), rate: z.number().optional(), update: z.enum(["sign", "proportional"]).optional() })]).describe("how the experts' load is balanced"),
  zLoss: z.number().min(0).describe("coefficient of the router z-loss"),
  layers: z.union([z.enum(["all", "every-other"]), z.strictObject({ firstDense: z.number().int().min(0) })]).describe("which layers are sparse"),
} satisfies Record<keyof MoeOptions, z.ZodType>).partial();

export const modelFields = {
  size: z.enum(names(sizes)).describe("size preset: trains in about 1, 10, 60 minutes on two cores"),
  context: count.describe("tokens that the model sees at once"),
  width: count.describe("width of the model"),
  layers: count.describe("layers"),
  heads: count.describe("attention heads"),
  kvHeads: count.describe("heads of keys and values"),
  hidden: count.describe("hidden width of dense feed-forward layers"),
  tiedEmbeddings: z.boolean().describe("use the embedding table as the output projection"),
} satisfies Partial<Record<keyof ModelOptions, z.ZodType>>;

/** Everything a run can be told, the same in a YAML file and, as far as it is flat, in flags. */
export const runSchema = z
  .strictObject({
    data: z.union([z.string(), z.array(z.string()).min(1)]),
    out: z.string(),
    tokenizer: z.string(),
    vocab: count.describe("vocabulary of a bpe tokenizer; default 4096"),
    ...modelFields,
    moe: z.union([moeSchema, z.literal(false)]),
    ...trainSchema.omit({ context: true }).shape,
  })
  .partial();

export type RunInput = z.input<typeof runSchema>;

/** What the flags say that has no key of its own in the API. */
export interface MoeShorthands {
  auxCoeff?: number | undefined;
  biasRate?: number | undefined;
  capacityFactor?: number | undefined;
}

export interface RunSettings {
  data: readonly string[];
  out: string;
  tokenizer: string;
  vocab: number;
  model: Omit<ModelOptions, "vocab">;
  train: TrainInput;
}

const wholeConfig = 'YAML with the options of train, as in "steps: 500"';

/** A few pages; a parser of YAML takes seconds for a megabyte. */
const maxConfigBytes = 2 ** 16;

/** More brackets, or dashes in a row, than settings have. The parser is recursive: V8 ends the process where it compiles a regular expression at the end of the stack. */
const isNestedTooDeep = (text: string): boolean => text.split(/[[{]/).length > 256 || /(?:[-?][ \t]+){64}/.test(text);

/** Keys of a YAML file. Throws ERR_SWITCHYARD_USAGE naming file and line or key, ERR_SWITCHYARD_IO. */
export function readConfigFile(path: string): RunInput {
  checkPath("train: --config", path);
  const bytes = readFileUpTo(path, maxConfigBytes, "ERR_SWITCHYARD_USAGE");
  check(isUtf8(bytes) && !bytes.includes(0), "ERR_SWITCHYARD_USAGE", () => `${path}: expected ${wholeConfig}, got bytes that are no text`);
  const text = bytes.toString();
  check(!isNestedTooDeep(text), "ERR_SWITCHYARD_USAGE", () => `${path}: nested deeper than settings are`);
  try {
    return checkRun((parse(text) as unknown) ?? {}, path);
  } catch (cause) {
    if (cause instanceof SwitchyardError) throw cause;
    throw new SwitchyardError("ERR_SWITCHYARD_USAGE", `${path}: not valid YAML: ${(cause as Error).message.split("\n")[0]?.slice(0, 200)}`, { cause });
  }
}

/** Checks names and ranges. Messages start with `source` and call a field what `nameOf` makes of its path. */
export function checkRun(input: unknown, source: string, nameOf = (path: readonly PropertyKey[]) => path.join(".")): RunInput {
  const parsed = runSchema.safeParse(input);
  if (parsed.success) return input as RunInput; // defaults are for `train` to fill in
  throw new SwitchyardError("ERR_SWITCHYARD_USAGE", `${source}: ${describeIssue(parsed.error.issues[0] as z.core.$ZodIssue, input, nameOf)}`);
}

function describeIssue(issue: z.core.$ZodIssue, input: unknown, nameOf: (path: readonly PropertyKey[]) => string): string {
  const { path } = issue;
  if (issue.code === "invalid_union") {
    // The most telling alternative is the one that got furthest into the value.
    const issues = issue.errors.flatMap((alternative) => alternative.slice(0, 1)).toSorted((a, b) => depth(b) - depth(a));
    if (issues[0] !== undefined) return describeIssue({ ...issues[0], path: [...path, ...issues[0].path] }, input, nameOf);
  }
  if (issue.code === "unrecognized_keys") {
    const known = knownKeys(path);
    const key = (issue.keys[0] as string).slice(0, 100);
    const guess = nearest(key, known);
    return `unknown key "${[...path, key].join(".")}"; ${guess === undefined ? `known are ${known.join(", ")}` : `did you mean "${guess}"?`}`;
  }
  const given = path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown>)?.[key], input);
  const wanted = path.length === 0 ? wholeConfig : expected(runSchema, path, given);
  return `${path.length === 0 ? "" : `${nameOf(path)}: `}expected ${wanted}, got ${given === undefined ? "nothing" : show(given)}`;
}

const depth = (issue: z.core.$ZodIssue): number => issue.path.length * 2 + Number(issue.code === "unrecognized_keys");

function knownKeys(path: readonly PropertyKey[]): string[] {
  if (path.length === 0) return Object.keys(runSchema.shape);
  if (path.length === 1) return Object.keys(moeSchema.shape);
  return path[1] === "router" ? Object.keys(routerSchema.shape) : ["method", "coefficient", "rate", "update"];
}

/** Later layers win, key by key, inside `moe` too; `moe: false` is replaced, or replaces, as a whole. */
export function mergeRuns(...layers: readonly RunInput[]): RunInput {
  return layers.reduce<RunInput>((merged, layer) => {
    const given = Object.fromEntries(Object.entries(layer).filter(([, value]) => value !== undefined)) as RunInput;
    const moe = merged.moe && given.moe ? { ...merged.moe, ...given.moe } : (given.moe ?? merged.moe);
    return { ...merged, ...given, ...(moe === undefined ? {} : { moe }) };
  }, {});
}

/** Splits checked input into what each part takes, and fills in what the size decides. Throws ERR_SWITCHYARD_USAGE. */
export function resolveRun(input: RunInput, shorthands: MoeShorthands): RunSettings {
  const { data, out, size = "xs", tokenizer = size === "xs" ? "bytes" : "bpe", vocab, moe, context, width, layers, heads, kvHeads, hidden, tiedEmbeddings, ...train } = input;
  check(data !== undefined, "ERR_SWITCHYARD_USAGE", () => "train: no data; name text files or folders with --data");
  check(out !== undefined && out !== "", "ERR_SWITCHYARD_USAGE", () => "train: no folder for the model; name one with --out");
  check(vocab === undefined || tokenizer === "bpe", "ERR_SWITCHYARD_USAGE", () => `train: --vocab does nothing for the tokenizer ${tokenizer}, which has its own; choose --tokenizer bpe`);
  return {
    data: typeof data === "string" ? [data] : data,
    out,
    tokenizer,
    vocab: vocab ?? 4096,
    model: { size, context, width, layers, heads, kvHeads, hidden, tiedEmbeddings, moe: moeOptions(moe, shorthands) },
    train: { ...trainingPresets[size], ...train } as TrainInput,
  };
}

function moeOptions(moe: RunInput["moe"], { auxCoeff, biasRate, capacityFactor }: MoeShorthands): MoeOptions | false {
  const shorthand = [["--aux-coeff", auxCoeff], ["--bias-rate", biasRate], ["--capacity-factor", capacityFactor]].find(([, value]) => value !== undefined)?.[0];
  check(moe !== false || shorthand === undefined, "ERR_SWITCHYARD_USAGE", () => `train: ${shorthand} is for mixture-of-experts models; remove it or --dense`);
  if (moe === false) return false;
  const { router: given, balance, ...rest } = moe ?? {};
  check(rest.sharedCombine === undefined || (rest.shared ?? 0) > 0, "ERR_SWITCHYARD_USAGE", () => "train: --shared-combine does nothing without a shared expert; give --shared");
  // Names and types are checked here, what they mean together by the model's config.
  const base = routerConfig(given as RouterPreset | Partial<RouterConfig> | undefined);
  const capacity = capacityFactor === undefined ? base.capacity : { train: capacityFactor, eval: capacityFactor, drop: base.capacity?.drop ?? ("position" as const) };
  return { ...rest, router: { ...base, capacity }, balance: balanceOf(balance, base.balance, { auxCoeff, biasRate }) };
}

function balanceOf(given: NonNullable<Exclude<RunInput["moe"], false>>["balance"], preset: Balance, { auxCoeff, biasRate }: MoeShorthands): Balance {
  const wanted = given === undefined ? preset : typeof given === "string" ? { method: given } : given;
  const { coefficient, rate, update } = wanted as { coefficient?: number; rate?: number; update?: "sign" | "proportional" };
  const needs = (options: Readonly<Record<string, unknown>>, methods: string) => {
    const idle = Object.keys(options).find((name) => options[name] !== undefined);
    check(idle === undefined, "ERR_SWITCHYARD_USAGE", () => `train: ${idle} does nothing for balance "${wanted.method}"; choose ${methods}`);
  };
  if (wanted.method !== "loss-free") needs({ "--bias-rate": biasRate, "moe.balance.rate": rate, "moe.balance.update": update }, "loss-free");
  if (wanted.method === "none" || wanted.method === "loss-free") needs({ "--aux-coeff": auxCoeff, "moe.balance.coefficient": coefficient }, "switch, gshard, importance, load or entropy");
  if (wanted.method === "none") return { method: "none" };
  if (wanted.method === "loss-free") return { method: "loss-free", rate: biasRate ?? rate ?? balanceDefaults.rate, update: update ?? balanceDefaults.update };
  return { method: wanted.method, coefficient: auxCoeff ?? coefficient ?? balanceDefaults.coefficient };
}
