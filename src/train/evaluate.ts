import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check, checkAborted } from "../errors.js";
import { checkOptions, show } from "../options.js";
import { evaluationWindows } from "../data/index.js";
import { checkLanguageModel, type LanguageModel } from "../model/language-model.js";
import { forward, logits } from "../model/transformer.js";
import { crossEntropy, sum } from "../ops/index.js";
import { loadStatistics, type LoadStatistics } from "../routing/statistics.js";
import { view } from "../tensor/tensor.js";
import { modelTokens, type TextData } from "./model-tokens.js";
import type { Batch } from "./trainer.js";

export interface Evaluation {
  /** Mean cross-entropy per token in nats, without routing losses. */
  loss: number;
  perplexity: number;
  tokens: number;
  /** Per sparse layer, over all tokens. */
  routing: (LoadStatistics & { layer: number })[];
}

export interface EvaluateSettings {
  data: TextData;
  /** Tokens per window, default the model's context. A token is predicted from those before it in its window. */
  context?: number | undefined;
  /** Windows at a time, which does not change the loss unless a router's choice does (expert choice, capacity). Default 16, or as many as have 8,192 tokens: memory grows with them. */
  batch?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Loss and routing of `model` over each token of `data` but the first. Throws ERR_SWITCHYARD_USAGE, ERR_SWITCHYARD_DATA, ERR_SWITCHYARD_IO, ERR_SWITCHYARD_DIVERGED, ERR_SWITCHYARD_ABORTED. */
export async function evaluate(model: LanguageModel, settings: EvaluateSettings): Promise<Evaluation> {
  checkLanguageModel("eval", model);
  checkOptions("eval", settings, { data: true, context: true, batch: true, signal: true });
  const { data, context = model.config.context, batch, signal } = settings;
  const most = model.config.context;
  check(Number.isInteger(context) && context >= 1 && context <= most, "ERR_SWITCHYARD_USAGE", () => `eval: context: expected an integer from 1 to the model's ${most}, got ${show(context)}`);
  check(batch === undefined || (Number.isInteger(batch) && batch >= 1), "ERR_SWITCHYARD_USAGE", () => `eval: batch: expected an integer of at least 1, got ${show(batch)}`);
  const windows = batch ?? Math.min(16, Math.max(1, Math.floor(8192 / context)));
  const evaluation = await evaluateBatches(model, evaluationWindows(modelTokens(model, data, "eval"), { context, batch: windows }), signal);
  check(Number.isFinite(evaluation.loss), "ERR_SWITCHYARD_DIVERGED", () => `eval: the loss is ${evaluation.loss}; the weights are broken, or their precision is too low`);
  return evaluation;
}

/** Rows whose logits are in memory at a time: with a large vocabulary those of all would be most of what evaluation takes. */
const logitRows = 128;

/** Loss and routing over all of `batches`, noise and dropout off, capacities those of evaluation. Throws ERR_SWITCHYARD_ABORTED. */
export async function evaluateBatches(model: LanguageModel, batches: Iterable<Batch>, signal?: AbortSignal): Promise<Evaluation> {
  const { engine, config } = model;
  using arena = new Arena(engine);
  let total = 0;
  let tokens = 0;
  const counts = config.sparseLayers.map(() => ({ load: new Int32Array(config.moe?.experts ?? 0), tokens: 0, dropped: 0, fullyDropped: 0 }));
  for (const { inputs, targets, batch } of batches) {
    checkAborted(signal, "evaluate");
    arena.reset();
    const tape = new Tape(engine, arena);
    const { hidden, routings } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch });
    const wanted = tape.constant([targets.length], targets, "i32");
    for (let first = 0; first < targets.length; first += logitRows) {
      const rows = Math.min(logitRows, targets.length - first);
      const losses = () => crossEntropy(tape, logits(tape, model, view(hidden, [rows, hidden.cols], first * hidden.cols)), view(wanted, [rows], first));
      total += engine.read(tape.scope(() => sum(tape, losses(), "all"), (part) => [part]))[0] as number;
    }
    tokens += targets.length;
    routings.forEach(({ load, dropped, fullyDropped }, i) => {
      const count = counts[i] as (typeof counts)[number];
      load.forEach((n, e) => (count.load[e] = (count.load[e] as number) + n));
      count.tokens += inputs.length;
      count.dropped += dropped;
      count.fullyDropped += fullyDropped;
    });
    await new Promise(setImmediate); // signals and timers have their turn
  }
  const loss = total / tokens;
  return { loss, perplexity: Math.exp(loss), tokens, routing: counts.map((count, i) => ({ layer: config.sparseLayers[i] as number, ...loadStatistics(count) })) };
}
