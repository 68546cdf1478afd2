import { z } from "zod";
import { check, SwitchyardError } from "../errors.js";
import { checkOptions, show } from "../options.js";
import { expected } from "./expected.js";
import { checkSchedule, type Schedule } from "./schedule.js";
import { defaultOptimizer } from "./optimizer.js";

const count = z.number().int().min(1);
const steps = z.number().int().min(0);

/** One schema for the API, the command line and the YAML file. Lengths are in optimiser steps. */
export const trainSchema = z.strictObject({
  steps: count.describe("optimiser steps to train for"),
  batch: count.describe("sequences per batch"),
  accumulation: count.default(1).describe("batches whose gradients are summed before a step"),
  context: count.optional().describe("tokens per training sequence; default: the model's context"),
  learningRate: z.number().positive().describe("peak learning rate"),
  minLearningRate: z.number().min(0).optional().describe("final learning rate; default: a tenth of the peak"),
  schedule: z.enum(["cosine", "wsd", "constant"]).default("cosine").describe("shape of the learning rate after warm-up"),
  warmup: steps.optional().describe("steps of linear warm-up; default: a twentieth of the steps"),
  decaySteps: steps.optional().describe("last steps of schedule wsd; default: a fifth of the steps"),
  beta1: z.number().min(0).lt(1).default(defaultOptimizer.beta1),
  beta2: z.number().min(0).lt(1).default(defaultOptimizer.beta2),
  eps: z.number().positive().default(defaultOptimizer.eps),
  weightDecay: z.number().min(0).default(defaultOptimizer.weightDecay).describe("decoupled decay of matrices"),
  clipNorm: z.number().positive().default(defaultOptimizer.clipNorm).describe("largest gradient norm"),
  routerRate: z.number().min(0).default(defaultOptimizer.routerRate).describe("router's learning rate as a multiple of the others'"),
  dropout: z.number().min(0).lt(1).default(0),
  precision: z.enum(["f32", "bf16"]).default("f32").describe("operand precision of matrix products"),
  order: z.enum(["shuffled", "random"]).default("shuffled").describe("every window once per epoch, or random offsets"),
  validation: z.number().min(0).lt(1).default(0.1).describe("last part of the data kept for evaluation"),
  evalEvery: steps.optional().describe("steps between evaluations, 0: never; default: a tenth of the steps, 10 at least"),
  evalTokens: count.default(65_536).describe("validation tokens per evaluation"),
  logEvery: count.default(10).describe("steps between log lines"),
  checkpointEvery: steps.optional().describe("steps between checkpoints, 0: only the last; default: a fifth of the steps"),
  keepCheckpoints: count.default(2).describe("newest checkpoints that are kept, beside the best"),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(1),
});

export const trainNames = Object.fromEntries(Object.keys(trainSchema.shape).map((name): [string, true] => [name, true]));

export type TrainInput = z.input<typeof trainSchema>;

/** Training options with every default filled in. */
export interface TrainOptions extends Omit<z.output<typeof trainSchema>, "schedule" | "warmup" | "decaySteps" | "minLearningRate"> {
  schedule: Schedule;
  evalEvery: number;
  checkpointEvery: number;
}

/** Checks and completes options. Throws ERR_SWITCHYARD_USAGE naming the option, ERR_SWITCHYARD_CONFIG for a schedule that does not fit. */
export function trainOptions(input: TrainInput): TrainOptions {
  checkOptions<object>("train", input, trainNames);
  const parsed = trainSchema.safeParse(input);
  if (!parsed.success) {
    const key = parsed.error.issues[0]?.path[0] as keyof TrainInput;
    throw new SwitchyardError("ERR_SWITCHYARD_USAGE", `train: ${key}: expected ${expected(trainSchema, [key], input[key])}, got ${show(input[key])}`);
  }
  const { schedule: kind, warmup: warm, decaySteps, minLearningRate, ...rest } = parsed.data;
  const { steps: total, learningRate } = rest;
  check(!((minLearningRate ?? 0) > learningRate), "ERR_SWITCHYARD_USAGE", () => `train: minLearningRate: expected at most the learning rate of ${learningRate}, got ${minLearningRate}`);
  check(decaySteps === undefined || kind === "wsd", "ERR_SWITCHYARD_USAGE", () => `train: decaySteps does nothing for schedule "${kind}"; choose wsd`);
  const warmup = warm ?? Math.ceil(total / 20);
  const floor = (minLearningRate ?? learningRate / 10) / learningRate;
  const shapes: Record<typeof kind, Schedule> = {
    constant: { kind: "constant", warmup },
    cosine: { kind: "cosine", warmup, steps: total, floor },
    wsd: { kind: "wsd", warmup, steps: total, decay: decaySteps ?? Math.floor(total / 5), floor },
  };
  checkSchedule(shapes[kind]);
  return { ...rest, schedule: shapes[kind], evalEvery: rest.evalEvery ?? Math.max(10, Math.ceil(total / 10)), checkpointEvery: rest.checkpointEvery ?? Math.ceil(total / 5) };
}
