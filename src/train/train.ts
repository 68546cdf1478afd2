import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, opendirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { NativeEngine } from "../engine/native.js";
import { check, SwitchyardError } from "../errors.js";
import { checkOptions, checkPath } from "../options.js";
import { makeFolders, withIoErrors } from "../formats/io.js";
import { BatchSampler, evaluationWindows, splitTokens, type Tokens } from "../data/index.js";
import { checkLanguageModel, type LanguageModel } from "../model/language-model.js";
import { latestCheckpoint, checkpoints, pruneCheckpoints, publish, restoreCheckpoint, type RunState, saveCheckpoint } from "./checkpoint.js";
import { claimRun } from "./claim.js";
import { evaluateBatches, type Evaluation } from "./evaluate.js";
import { JsonlLog } from "./log/jsonl.js";
import type { StepRecord } from "./log/record.js";
import { TensorBoardLog } from "./log/tensorboard.js";
import { modelTokens, type TextData } from "./model-tokens.js";
import { RoutingObserver } from "./observer.js";
import { type TrainInput, trainOptions, trainSchema } from "./options.js";
import { type StepResult, Trainer } from "./trainer.js";

export interface TrainSettings extends TrainInput {
  data: TextData;
  /** Run folder: model, checkpoints, logs. Without it nothing is written. */
  out?: string | undefined;
  /** Go on from the newest complete checkpoint in `out`. */
  resume?: boolean | undefined;
  /** Ends training after the current step, with a checkpoint. */
  signal?: AbortSignal | undefined;
  /** Hears of things that are not errors. Default: nobody. */
  warn?: ((message: string) => void) | undefined;
}

const trainSettings = Object.fromEntries([...Object.keys(trainSchema.shape), "data", "out", "resume", "signal", "warn"].map((name) => [name, true]));

/** What a step did. `routing`, `evaluation` and `record` are there on the steps that log or evaluate. */
export interface TrainStep extends StepResult {
  /** Steps done, from 1. */
  index: number;
  steps: number;
  tokensPerSecond: number;
  /** Largest share of the choices that one expert of one layer got in this step; 0 for a dense model. */
  routing: { maxLoad: number };
  evaluation?: Evaluation;
  record?: StepRecord;
}

const tokenHash = (tokens: Tokens): string => createHash("sha256").update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength)).digest("hex");

/**
 * Trains `model` in place, yielding after every optimiser step. Deterministic: the same model, data, options, engine and kernel
 * variant give the same bits, whatever the number of threads, and however often the run is stopped and resumed.
 * Throws ERR_SWITCHYARD_DATA, ERR_SWITCHYARD_USAGE, ERR_SWITCHYARD_CHECKPOINT, ERR_SWITCHYARD_DIVERGED, ERR_SWITCHYARD_IO.
 */
export async function* train(model: LanguageModel, settings: TrainSettings): AsyncGenerator<TrainStep> {
  checkLanguageModel("train", model);
  checkOptions<object>("train", settings, trainSettings);
  const { data, out, resume = false, signal, warn = () => undefined, ...input } = settings;
  if (out !== undefined) checkPath("train: out", out);
  const options = trainOptions(input);
  const tokens = modelTokens(model, data, "train");
  const { training, validation } = splitTokens(tokens, options.validation);
  const context = options.context ?? model.config.context;
  check(context <= model.config.context, "ERR_SWITCHYARD_USAGE", () => `train: a training context of ${context} is longer than the model's, ${model.config.context}`);
  const sampler = new BatchSampler(training, { context, batch: options.batch, seed: options.seed, order: options.order });
  const validate = options.evalEvery > 0 && validation.length > context;
  if (options.evalEvery > 0 && !validate) warn(`train: the validation part has ${validation.length} tokens, fewer than one window of ${context + 1}; no evaluation`);

  using trainer = new Trainer(model, options);
  const dataHash = tokenHash(training);
  let tokensSeen = 0;
  let best: RunState["best"] = null;
  let saved = -1;
  if (out !== undefined && !resume) {
    checkNewRun(out);
    withIoErrors("create", out, () => makeFolders(out));
  }
  using _ = out === undefined || !existsSync(out) ? undefined : claimRun(out);
  const newest = out !== undefined && resume ? await latestCheckpoint(out, warn) : undefined;
  if (newest !== undefined) {
    const state = await restoreCheckpoint(newest, trainer);
    check(state.data === dataHash, "ERR_SWITCHYARD_CHECKPOINT", () => `resume: the training data is not what ${out} was trained on; pass the same files, tokenizer and validation fraction`);
    sampler.restore(state.sampler);
    tokensSeen = state.tokens;
    best = state.best;
    saved = state.step;
    if (best === null || best.step === state.step) await publish(newest, out as string); // where the process ended between saving it and this
    if (trainer.step >= options.steps) return warn(`train: ${out} is at step ${trainer.step} of ${options.steps} already; to train it longer, give more steps`);
  }
  const resumeStep = resume ? { resumeStep: trainer.step } : {};
  const logs: (JsonlLog | TensorBoardLog)[] = [];
  const save = async (improved: boolean) => {
    if (out === undefined || (saved === trainer.step && !improved)) return;
    const state = { step: trainer.step, updates: trainer.optimizer.steps, skipped: trainer.skipped, tokens: tokensSeen, sampler: sampler.state(), data: dataHash, best, options: input, model: model.config };
    const folder = await saveCheckpoint(out, trainer, state);
    saved = trainer.step;
    if (improved || best === null) await publish(folder, out);
    pruneCheckpoints(out, options.keepCheckpoints, best?.step);
  };

  try {
    if (out !== undefined) {
      logs.push(new JsonlLog(join(out, "train.jsonl"), resumeStep));
      logs.push(new TensorBoardLog(out, resumeStep));
    }
    const { engine } = model;
    const peak = engine instanceof NativeEngine ? engine.peakGflops(options.precision) * 1e9 : undefined;
    let since = { time: performance.now(), tokens: tokensSeen, flops: 0 };
    let flops = 0;
    let isSound = true; // weights that give no finite loss are nothing to go on from
    while (trainer.step < options.steps) {
      if (signal?.aborted === true) break;
      const index = trainer.step + 1;
      const last = index === options.steps;
      const evaluating = validate && (last || index % options.evalEvery === 0);
      const logging = last || evaluating || index % options.logEvery === 0 || index === 1;
      const observer = logging ? new RoutingObserver(model) : undefined;
      const start = performance.now();
      const result = trainer.train(() => sampler.next(), observer?.observe);
      tokensSeen += result.tokens;
      flops += result.flops;
      if (!result.applied) warn(`step ${index}: loss ${result.loss}, gradient norm ${result.norms.total}: skipped`);
      const elapsed = (performance.now() - start) / 1e3;
      const step: TrainStep = { index, steps: options.steps, tokensPerSecond: result.tokens / elapsed, routing: { maxLoad: maxShare(result.load) }, ...result };
      if (observer !== undefined) {
        const seconds = (performance.now() - since.time) / 1e3;
        // Not ended by `signal`: a resumed run has to know the same best loss.
        const evaluation = evaluating ? await evaluateBatches(model, limited(evaluationWindows(validation, { context, batch: options.batch }), options.evalTokens)) : undefined;
        const { aux, z } = observer.lossRecords();
        const flopsPerSecond = (flops - since.flops) / seconds;
        step.record = {
          step: index,
          tokens: tokensSeen,
          loss: result.loss,
          ce: result.crossEntropy,
          aux,
          z,
          lr: result.learningRate,
          grad_norm: result.norms,
          moe: observer.layerRecords(),
          tok_s: (tokensSeen - since.tokens) / seconds,
          flops_s: flopsPerSecond,
          mfu: peak === undefined ? null : flopsPerSecond / peak,
          rss: process.memoryUsage.rss(),
          ...(evaluation === undefined ? {} : { eval: { loss: evaluation.loss, perplexity: evaluation.perplexity } }),
        };
        for (const log of logs) log.write(step.record);
        if (evaluation !== undefined) {
          step.evaluation = evaluation;
          const improved = evaluation.loss < (best?.loss ?? Infinity);
          if (improved) best = { step: index, loss: evaluation.loss };
          if (improved) await save(true);
        }
        since = { time: performance.now(), tokens: tokensSeen, flops };
      }
      const isDue = options.checkpointEvery > 0 && index % options.checkpointEvery === 0;
      isSound = Number.isFinite(result.loss) && Number.isFinite(step.evaluation?.loss ?? 0);
      if (isSound && (last || (isDue && result.applied))) await save(false);
      yield step;
      await new Promise(setImmediate);
    }
    if (isSound) await save(false);
    else if (trainer.step < options.steps) warn(`train: step ${trainer.step} is not saved, since its loss is not finite`);
    else throw new SwitchyardError("ERR_SWITCHYARD_DIVERGED", `train: the loss is not finite at the last step, ${trainer.step}; resume from the last checkpoint, or begin again, with a lower learning rate`);
  } finally {
    for (const log of logs) log.close();
  }
}

/** Files of a model that a run writes into its folder, which may be those of another model, or a project's README. */
const ownFiles = ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/** Throws ERR_SWITCHYARD_USAGE when `out` holds a run already, or files that a run would write over, ERR_SWITCHYARD_IO when it cannot be a folder to write in. */
export function checkNewRun(out: string): void {
  let existing = resolve(out);
  while (!existsSync(existing)) existing = dirname(existing);
  withIoErrors("write in", out, () => {
    opendirSync(existing).closeSync();
    accessSync(existing, constants.W_OK);
  });
  check(checkpoints(out).length === 0, "ERR_SWITCHYARD_USAGE", () => `train: ${out} already holds a run; go on with it (train --resume), or choose another folder`);
  const taken = ownFiles.find((name) => existsSync(join(out, name)));
  check(taken === undefined, "ERR_SWITCHYARD_USAGE", () => `train: ${out} already holds ${taken}, which a run would write over; choose another folder`);
}

/** Whole batches up to `limit` tokens, at least one. */
function* limited<B extends { inputs: ArrayLike<number> }>(batches: Iterable<B>, limit: number): Generator<B> {
  let tokens = 0;
  for (const batch of batches) {
    yield batch;
    tokens += batch.inputs.length;
    if (tokens >= limit) return;
  }
}

function maxShare(loads: readonly Int32Array[]): number {
  return Math.max(0, ...loads.map((load) => Math.max(...load) / load.reduce((sum, n) => sum + n, 0)));
}
