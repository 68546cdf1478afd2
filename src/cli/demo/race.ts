import { BatchSampler, type Tokens } from "../../data/index.js";
import type { Engine } from "../../engine/engine.js";
import { Model } from "../../generate/model.js";
import type { ModelConfig } from "../../model/config.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { evaluate } from "../../train/evaluate.js";
import { Progress } from "../../train/log/progress.js";
import { type TrainInput, trainOptions } from "../../train/options.js";
import { train } from "../../train/train.js";
import { Trainer } from "../../train/trainer.js";
import type { Io } from "../io.js";

const seed = 1;

interface RaceOptions {
  engine: Engine;
  tokenizer: Tokenizer;
  tokens: Tokens;
  /** The held-out part of `tokens`, its end. */
  heldOut: Tokens;
  /** Held-out tokens on which the two models are compared after the last step. */
  comparedTokens: number;
  train: TrainInput;
  signal: AbortSignal;
}

export interface Trained {
  model: Model;
  /** Held-out loss after so many steps. */
  curve: { step: number; loss: number }[];
  /** On the compared tokens, after the last step; nats per token. */
  loss: number;
  /** How many those are. */
  compared: number;
  seconds: number;
  tokensPerSecond: number;
}

/** Steps that fit into `seconds`, found by timing a few of them with a model that is thrown away. */
export function affordableSteps({ engine, tokens, train: input }: Pick<RaceOptions, "engine" | "tokens" | "train">, config: ModelConfig, seconds: number): number {
  using model = Model.create({ config, seed, engine });
  const options = trainOptions(input);
  using trainer = new Trainer(model, options);
  const sampler = new BatchSampler(tokens, { context: config.context, batch: options.batch, seed, order: "random" });
  const times = Array.from({ length: 6 }, () => {
    const start = performance.now();
    trainer.train(() => sampler.next());
    return (performance.now() - start) / 1e3;
  });
  const typical = times.slice(1).sort((a, b) => a - b)[2] as number; // the first step allocates
  return Math.min(3000, Math.max(40, 10 * Math.round(seconds / typical / 10)));
}

/** Trains one model; `out` keeps it. */
export async function trainOne(io: Io, config: ModelConfig, { engine, tokenizer, tokens, heldOut, comparedTokens, train: input, signal }: RaceOptions, out?: string): Promise<Trained> {
  const model = Model.create({ config, tokenizer, seed, engine });
  const progress = new Progress({ totalSteps: input.steps, stream: io.stderr, env: io.env });
  const curve: Trained["curve"] = [];
  const start = performance.now();
  let done = 0;
  for await (const step of train(model, { ...input, seed, data: tokens, out, signal })) {
    done += step.tokens;
    if (step.record !== undefined) progress.update(step.record);
    if (step.evaluation !== undefined) {
      curve.push({ step: step.index, loss: step.evaluation.loss });
    }
  }
  progress.finish();
  const seconds = (performance.now() - start) / 1e3;
  const { loss, tokens: compared } = await evaluate(model, { data: heldOut.subarray(0, comparedTokens + 1) });
  return { model, curve, loss, compared, seconds, tokensPerSecond: done / seconds };
}
