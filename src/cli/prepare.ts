import { BatchSampler, loadTokens, splitTokens, type Tokens } from "../data/index.js";
import { check, SwitchyardError } from "../errors.js";
import { Model } from "../generate/model.js";
import { checkModelConfig, type ModelConfig } from "../model/config.js";
import { modelConfig } from "../model/presets.js";
import { loadTokenizer } from "../tokenizer/load.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { latestCheckpoint, readRunState, type RunState } from "../train/checkpoint.js";
import { modelDifference } from "../train/model-difference.js";
import { type TrainInput, trainOptions } from "../train/options.js";
import { checkNewRun } from "../train/run.js";
import { checkRun, mergeRuns, modelFields, readConfigFile, resolveRun, type RunInput, type RunSettings } from "./settings.js";
import { makeTokenizer } from "./tokenizer.js";
import { flagsToRun, type TrainFlags } from "./train-flags.js";

/** A run that has only to be started. */
export interface PreparedRun {
  model: Model;
  train: TrainInput;
  data: readonly string[];
  tokens: Tokens;
  out: string;
  resume: boolean;
  /** Steps done before. */
  startStep: number;
  /** First words of the data, as a prompt to try. */
  sample: string;
}

/** From the command line to a model and its data. Options are checked before any file is read, the data before any is written. */
export async function prepareRun(flags: TrainFlags, warn: (message: string) => void): Promise<PreparedRun> {
  const given = mergeRuns(flags.config === undefined ? {} : readConfigFile(flags.config), flagsToRun(flags));
  const settings = resolveRun(given, flags);
  const { config, tokenizer, train, state } = flags.resume === true ? await resumed(settings, given, flags, warn) : fresh(settings);
  const { data, out } = settings;
  const tokens = loadTokens(data, tokenizer);
  const { batch, order, seed, validation } = trainOptions(train);
  // Only to learn whether the data is enough.
  void new BatchSampler(splitTokens(tokens, validation).training, { context: config.context, batch, seed, order });
  const model = Model.create({ config, tokenizer, seed });
  return { model, train, data, tokens, out, resume: state !== undefined, startStep: state?.step ?? 0, sample: firstWords(tokenizer.decode(tokens.subarray(0, 200))) };
}

interface Start {
  config: ModelConfig;
  tokenizer: Tokenizer;
  train: TrainInput;
  /** Of the checkpoint to go on from. */
  state?: RunState;
}

function fresh({ data, out, tokenizer: kind, vocab, model, train }: RunSettings): Start {
  asUsage(() => modelConfig({ ...model, vocab }));
  asUsage(() => trainOptions(train));
  checkNewRun(out);
  const tokenizer = makeTokenizer(kind, data, vocab);
  return { config: modelConfig({ ...model, vocab: tokenizer.vocabSize }), tokenizer, train };
}

/** Whatever is wrong with options that were given by hand is wrong usage. */
function asUsage(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof SwitchyardError) || error.code !== "ERR_SWITCHYARD_CONFIG") throw error;
    throw new SwitchyardError("ERR_SWITCHYARD_USAGE", error.message, { cause: error });
  }
}

async function resumed({ out, model: options }: RunSettings, given: RunInput, flags: TrainFlags, warn: (message: string) => void): Promise<Start> {
  const folder = await latestCheckpoint(out, warn);
  const state = readRunState(folder);
  const config = storedConfig(state, folder);
  const modelGiven = Object.keys({ ...modelFields, moe: true }).some((key) => key in given) || [flags.auxCoeff, flags.biasRate, flags.capacityFactor].some((value) => value !== undefined);
  if (modelGiven) checkSameModel(modelConfig({ ...options, vocab: config.vocab }), config, out);
  if (flags["tokenizer"] !== undefined) warn("train: --tokenizer is not used: a resumed run goes on with its own");
  const tokenizer = loadTokenizer(folder);
  check(tokenizer !== undefined, "ERR_SWITCHYARD_CHECKPOINT", () => `resume: ${folder} has no tokenizer.json, so text cannot be read`);
  const train = { ...(checkRun(state.options, folder) as TrainInput), ...trainKeys(given) };
  asUsage(() => trainOptions(train));
  return { config, tokenizer, train, state };
}

function storedConfig(state: RunState, folder: string): ModelConfig {
  try {
    return checkModelConfig(state.model as ModelConfig);
  } catch (cause) {
    throw new SwitchyardError("ERR_SWITCHYARD_CHECKPOINT", `resume: ${folder}: trainer.json: model: ${(cause as Error).message}`, { cause });
  }
}

function trainKeys(given: RunInput): Partial<TrainInput> {
  const { data: _data, out: _out, tokenizer: _tokenizer, vocab: _vocab, moe: _moe, ...rest } = given;
  return Object.fromEntries(Object.entries(rest).filter(([key, value]) => value !== undefined && !(key in modelFields)));
}

function checkSameModel(given: ModelConfig, stored: ModelConfig, out: string): void {
  const other = modelDifference(given, stored);
  check(other === undefined, "ERR_SWITCHYARD_USAGE", () => `train: --resume goes on with the model in ${out}, and the given options describe another (${other}); leave them out, or start anew with another --out`);
}

function firstWords(text: string): string {
  return text.match(/[\p{L}'][\p{L}']+(?: [\p{L}']+){0,2}/u)?.[0] ?? "The";
}
