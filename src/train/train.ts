import { NativeEngine } from "../engine/native.js";
import { check, checkSignal, SwitchyardError } from "../errors.js";
import { checkOptions, checkPath } from "../options.js";
import { BatchSampler, evaluationWindows, splitTokens } from "../data/index.js";
import { checkLanguageModel, type LanguageModel } from "../model/language-model.js";
import { evaluateBatches, type Evaluation } from "./evaluate.js";
import type { StepRecord } from "./log/record.js";
import { modelTokens, type TextData } from "./model-tokens.js";
import { RoutingObserver } from "./observer.js";
import { type TrainInput, trainNames, trainOptions } from "./options.js";
import { Run } from "./run.js";
import { type StepResult, Trainer } from "./trainer.js";

/** What a run is told. Of the options that are not explained here `switchyard train --help` gives meaning and default, under their names as flags (`learningRate`: `--learning-rate`). */
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

const settingNames = { ...trainNames, data: true, out: true, resume: true, signal: true, warn: true } as const;

/** What a step did. `evaluation` is there on the steps that evaluate, `record` on those that log. */
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

/**
 * Trains `model` in place, yielding after every optimiser step. Deterministic: the same model, data, options, engine and kernel
 * variant give the same bits, whatever the number of threads, and however often the run is stopped and resumed.
 * Throws ERR_SWITCHYARD_DATA, ERR_SWITCHYARD_USAGE, ERR_SWITCHYARD_CHECKPOINT, ERR_SWITCHYARD_DIVERGED, ERR_SWITCHYARD_IO.
 */
export async function* train(model: LanguageModel, settings: TrainSettings): AsyncGenerator<TrainStep> {
  checkLanguageModel("train", model);
  checkOptions<object>("train", settings, settingNames);
  const { data, out, resume = false, signal, warn = () => undefined, ...input } = settings;
  if (out !== undefined) checkPath("train: out", out);
  check(out !== undefined || !resume, "ERR_SWITCHYARD_USAGE", () => "train: resume: goes on with the run in `out`; name its folder");
  checkSignal(signal, "train");
  const options = trainOptions(input);
  const tokens = modelTokens(model, data, "train");
  const { training, validation } = splitTokens(tokens, options.validation);
  const context = options.context ?? model.config.context;
  check(context <= model.config.context, "ERR_SWITCHYARD_USAGE", () => `train: a training context of ${context} is longer than the model's, ${model.config.context}`);
  const sampler = new BatchSampler(training, { context, batch: options.batch, seed: options.seed, order: options.order });
  const validate = options.evalEvery > 0 && validation.length > context;
  if (options.evalEvery > 0 && !validate) warn(`train: the validation part has ${validation.length} tokens, fewer than one window of ${context + 1}; no evaluation`);

  using trainer = new Trainer(model, options);
  using run = new Run(out, { trainer, sampler, data: training, options: input });
  if (resume) await run.resume(warn);
  else run.begin();
  if (trainer.step >= options.steps) return warn(`train: ${out} is at step ${trainer.step} of ${options.steps} already; to train it longer, give more steps`);
  run.openLogs();

  const { engine } = model;
  const peak = engine instanceof NativeEngine ? engine.peakGflops(options.precision) * 1e9 : undefined;
  let since = { time: performance.now(), tokens: run.tokens, flops: 0 };
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
    run.tokens += result.tokens;
    flops += result.flops;
    if (!result.applied) warn(`step ${index}: loss ${result.loss}, gradient norm ${result.norms.total}: skipped`);
    const elapsed = (performance.now() - start) / 1e3;
    const step: TrainStep = { index, steps: options.steps, tokensPerSecond: result.tokens / elapsed, routing: { maxLoad: maxShare(result.load) }, ...result };
    if (observer !== undefined) {
      const seconds = (performance.now() - since.time) / 1e3;
      const rates = { tok_s: (run.tokens - since.tokens) / seconds, flops_s: (flops - since.flops) / seconds };
      // Not ended by `signal`: a resumed run has to know the same best loss.
      if (evaluating) step.evaluation = await evaluateBatches(model, limited(evaluationWindows(validation, { context, batch: options.batch }), options.evalTokens));
      step.record = record(step, run.tokens, observer, rates, peak);
      run.log(step.record);
      if (step.evaluation !== undefined) await run.evaluated(step.evaluation.loss);
      since = { time: performance.now(), tokens: run.tokens, flops };
    }
    const isDue = options.checkpointEvery > 0 && index % options.checkpointEvery === 0;
    isSound = Number.isFinite(result.loss) && Number.isFinite(step.evaluation?.loss ?? 0);
    if (isSound && (last || (isDue && result.applied))) await run.save();
    yield step;
    await new Promise(setImmediate);
  }
  if (isSound) await run.save();
  else if (trainer.step < options.steps) warn(`train: step ${trainer.step} is not saved, since its loss is not finite`);
  else throw new SwitchyardError("ERR_SWITCHYARD_DIVERGED", `train: the loss is not finite at the last step, ${trainer.step}; resume from the last checkpoint, or begin again, with a lower learning rate`);
}

/** The log's record of a step. `peak`: FLOPs per second that the threads could reach. */
function record(step: TrainStep, tokens: number, observer: RoutingObserver, rates: Pick<StepRecord, "tok_s" | "flops_s">, peak: number | undefined): StepRecord {
  const { index, loss, crossEntropy, learningRate, norms, evaluation } = step;
  return {
    step: index,
    tokens,
    loss,
    ce: crossEntropy,
    ...observer.lossRecords(),
    lr: learningRate,
    grad_norm: norms,
    moe: observer.layerRecords(),
    ...rates,
    mfu: peak === undefined ? null : rates.flops_s / peak,
    rss: process.memoryUsage.rss(),
    ...(evaluation === undefined ? {} : { eval: { loss: evaluation.loss, perplexity: evaluation.perplexity } }),
  };
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
