import { existsSync } from "node:fs";
import { evaluationWindows, loadTokens, type Tokens } from "../data/index.js";
import type { Engine } from "../engine/engine.js";
import { loadEngine } from "../engine/load.js";
import { check } from "../errors.js";
import { checkOptions, checkPath } from "../options.js";
import { writeFileAtomically } from "../formats/atomic-file.js";
import { calibrate, type Calibration } from "../model/calibrate.js";
import type { ModelConfig } from "../model/config.js";
import { isEncoderDecoder } from "../model/encoder-decoder/config.js";
import { LanguageModel } from "../model/language-model.js";
import { readModel } from "../model/read.js";
import { StagedWeights } from "../model/staged.js";
import { type FileType, fileTypes, type TensorType } from "../model/stored-types.js";
import { weightFiles, writeModel } from "../model/write.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type Drift, measureDrift } from "./drift.js";
import { type Quantities, quantities } from "./quantities.js";

export interface QuantizeOptions {
  type: FileType;
  /** Other types for some tensors, by their names in the target; in a folder each expert may have its own. */
  tensorTypes?: readonly TensorType[] | undefined;
  /** Text files or folders to learn from what errors cost. */
  calibrate?: string | readonly string[] | undefined;
  /** Text files or folders to compare both models on; without any, what calibration left of its text, or its text where it left too little. */
  data?: string | readonly string[] | undefined;
  /** Calibration reads on until every expert has seen so many tokens. Default 256. */
  expertTokens?: number | undefined;
  engine?: Engine | undefined;
  signal?: AbortSignal | undefined;
  /** Told what begins. */
  onStep?: ((step: string) => void) | undefined;
}

export interface QuantizationReport extends Quantities {
  source: string;
  target: string;
  /** As config.json has it. */
  modelType: string;
  type: FileType;
  parameters: number;
  /** Of the files with weights. */
  bytes: { before: number; after: number };
  /** The target has the source's tokenizer. */
  tokenizer: boolean;
  /** `general.architecture` of a GGUF file, null for a folder. */
  architecture: string | null;
  calibration: CalibrationReport | null;
  drift: (Drift & { text: "data" | "held out" | "calibration" }) | null;
  seconds: number;
}

export interface CalibrationReport {
  tokens: number;
  /** Tokens that every expert was to see. */
  expertTokens: number;
  /** Tokens that each expert saw. */
  layers: Calibration["experts"];
  /** Experts that saw fewer than wanted, and those that saw none: these have their layer's average importance. */
  rare: { layer: number; expert: number; tokens: number }[];
  unseen: { layer: number; expert: number }[];
}

/** Tokens that calibration and comparison read at least, in any case if there are so many, and at a time. */
const [leastTokens, calibrationTokens, comparisonTokens, windowTokens] = [1024, 16_384, 8192, 512];

/**
 * Writes a model with weights of few bits to `target`, a GGUF file or a folder by its name, and beside it a report, "TARGET.report.json", which is returned too.
 * The source is a model folder or a GGUF file. Takes the memory of the largest layer in f32. Throws ERR_SWITCHYARD_USAGE where the target exists,
 * ERR_SWITCHYARD_DATA for a text that is too short, ERR_SWITCHYARD_ABORTED, and as `Model.load` and `writeModel`; then nothing is left behind, but for the whole
 * target, without a report, where the comparison was aborted or failed.
 */
export async function quantize(source: string, target: string, options: QuantizeOptions): Promise<QuantizationReport> {
  checkPath("quantize: the source", source);
  checkPath("quantize: the target", target);
  checkOptions("quantize", options, { type: true, tensorTypes: true, calibrate: true, data: true, expertTokens: true, engine: true, signal: true, onStep: true });
  const { type, tensorTypes, data, expertTokens = 256, engine = loadEngine(), signal, onStep } = options;
  check(existsSync(source), "ERR_SWITCHYARD_CHECKPOINT", () => `quantize: ${source} does not exist; name the folder of a model, or a .gguf file`);
  check(!existsSync(target), "ERR_SWITCHYARD_USAGE", () => `quantize: ${target} exists; name another target, or move it away`);
  const isList = tensorTypes === undefined || (Array.isArray(tensorTypes) && tensorTypes.every(({ tensors }: TensorType) => tensors instanceof RegExp));
  check(isList, "ERR_SWITCHYARD_USAGE", () => "quantize: tensorTypes: expected a list of { tensors: a RegExp of names, type }");
  for (const wanted of [type, ...(tensorTypes ?? []).map((special) => special.type)]) {
    check(fileTypes.includes(wanted), "ERR_SWITCHYARD_USAGE", () => `quantize: type: expected one of ${fileTypes.join(", ")}, got ${JSON.stringify(wanted)}`);
  }
  check(options.expertTokens === undefined || options.calibrate !== undefined, "ERR_SWITCHYARD_USAGE", () => "quantize: tokens per expert are counted in calibration; name a text to calibrate on");
  check(Number.isInteger(expertTokens) && expertTokens >= 1, "ERR_SWITCHYARD_USAGE", () => `quantize: expected an integer of at least 1 for the tokens of an expert, got ${expertTokens}`);
  const start = performance.now();
  const { config, family, sources, tokenizer } = await readModel(source);
  const language = isEncoderDecoder(config) ? undefined : config;
  check(language !== undefined || (options.calibrate ?? data) === undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `quantize: ${source} is an encoder-decoder, which does not read plain text: leave out --calibrate and --data`);
  const [text, ownText] = [options.calibrate, data].map((paths) => (paths === undefined ? undefined : readTokens(source, paths, tokenizer)));
  let calibration: Calibration | undefined;
  if (text !== undefined && language !== undefined) {
    onStep?.("calibrating");
    calibration = await calibrate(engine, language, sources, windowsOf(text, language), { expertTokens, usual: calibrationTokens, signal });
  }
  onStep?.("writing");
  const written = await writeStaged();
  const comparison = ownText === undefined ? rest(text, calibration) : { tokens: ownText, text: "data" as const };
  let drift: QuantizationReport["drift"] = null;
  if (comparison !== undefined && language !== undefined) {
    onStep?.("comparing");
    using before = new LanguageModel(engine, language, undefined, sources);
    using after = await LanguageModel.load(target, { engine });
    drift = { ...(await measureDrift(before, after, windowsOf(comparison.tokens.subarray(0, comparisonTokens + 1), language), signal)), text: comparison.text };
  }
  const report: QuantizationReport = {
    source,
    target,
    modelType: family.modelType,
    type,
    ...quantities(written.tensors),
    bytes: { before: weightFiles(source).bytes, after: weightFiles(target).bytes },
    tokenizer: written.tokenizer,
    architecture: written.architecture,
    calibration: calibration === undefined ? null : calibrationReport(calibration, expertTokens),
    drift,
    seconds: (performance.now() - start) / 1000,
  };
  await writeFileAtomically(`${target}.report.json`, (handle) => handle.writeFile(`${JSON.stringify(report, undefined, 2)}\n`));
  return report;

  async function writeStaged() {
    using weights = new StagedWeights(engine, config, sources);
    return writeModel(target, config, weights, tokenizer, { type, tensorTypes, importance: calibration?.importance, signal });
  }
}

function readTokens(source: string, text: string | readonly string[], tokenizer: Tokenizer | undefined): Tokens {
  const paths = typeof text === "string" ? [text] : text;
  check(tokenizer !== undefined, "ERR_SWITCHYARD_CHECKPOINT", () => `quantize: ${source} has no tokenizer, so text cannot be read`);
  const tokens = loadTokens(paths, tokenizer);
  check(tokens.length > leastTokens, "ERR_SWITCHYARD_DATA", () => `quantize: ${paths.join(", ")}: expected more than ${leastTokens} tokens of text, got ${tokens.length}; give more`);
  return tokens;
}

function windowsOf(tokens: Tokens, config: ModelConfig) {
  const context = Math.min(config.context, windowTokens);
  return evaluationWindows(tokens, { context, batch: Math.max(1, Math.floor(windowTokens / context)) });
}

/** What calibration has not read, or else all of its text. */
function rest(text: Tokens | undefined, calibration: Calibration | undefined): { tokens: Tokens; text: "held out" | "calibration" } | undefined {
  if (text === undefined || calibration === undefined) return undefined;
  const left = text.subarray(calibration.tokens);
  return left.length > leastTokens ? { tokens: left, text: "held out" } : { tokens: text, text: "calibration" };
}

function calibrationReport({ tokens, experts: layers }: Calibration, expertTokens: number): CalibrationReport {
  const counts = layers.flatMap(({ layer, tokens: seen }) => seen.map((n, expert) => ({ layer, expert, tokens: n })));
  return {
    tokens,
    expertTokens,
    layers,
    rare: counts.filter(({ tokens: n }) => n > 0 && n < expertTokens),
    unseen: counts.filter(({ tokens: n }) => n === 0).map(({ layer, expert }) => ({ layer, expert })),
  };
}
