import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, opendirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { check } from "../errors.js";
import { makeFolders, withIoErrors } from "../formats/io.js";
import type { BatchSampler, Tokens } from "../data/index.js";
import { checkpoints, latestCheckpoint, pruneCheckpoints, publish, restoreCheckpoint, type RunState, saveCheckpoint } from "./checkpoint.js";
import { claimRun } from "./claim.js";
import { JsonlLog } from "./log/jsonl.js";
import type { StepRecord } from "./log/record.js";
import { TensorBoardLog } from "./log/tensorboard.js";
import type { TrainInput } from "./options.js";
import type { Trainer } from "./trainer.js";

/** What a checkpoint is made of. */
interface RunParts {
  trainer: Trainer;
  sampler: BatchSampler;
  /** Training tokens. */
  data: Tokens;
  /** As `train` was given them. */
  options: TrainInput;
}

/** What training leaves in its folder, claimed until disposed: checkpoints, the best model so far, logs. Without a folder nothing is written. */
export class Run {
  /** Tokens trained on. */
  tokens = 0;
  private best: RunState["best"] = null;
  /** Step of the newest checkpoint. */
  private savedStep = -1;
  private claim: Disposable | undefined;
  private readonly logs: (JsonlLog | TensorBoardLog)[] = [];
  private readonly data: string;

  constructor(
    private readonly out: string | undefined,
    private readonly parts: RunParts,
  ) {
    const { buffer, byteOffset, byteLength } = parts.data;
    this.data = createHash("sha256").update(new Uint8Array(buffer, byteOffset, byteLength)).digest("hex");
  }

  /** Makes the folder. Throws as `checkNewRun` does. */
  begin(): void {
    const { out } = this;
    if (out === undefined) return;
    checkNewRun(out);
    withIoErrors("create", out, () => makeFolders(out));
    this.claim = claimRun(out);
  }

  /** Goes on from the newest complete checkpoint. Throws ERR_SWITCHYARD_CHECKPOINT when there is none, or of other data. */
  async resume(warn: (message: string) => void): Promise<void> {
    const { out } = this;
    if (out === undefined) return;
    if (existsSync(out)) this.claim = claimRun(out);
    const { trainer, sampler } = this.parts;
    const newest = await latestCheckpoint(out, warn);
    const state = await restoreCheckpoint(newest, trainer);
    check(state.data === this.data, "ERR_SWITCHYARD_CHECKPOINT", () => `resume: the training data is not what ${out} was trained on; pass the same files, tokenizer and validation fraction`);
    sampler.restore(state.sampler);
    this.tokens = state.tokens;
    this.best = state.best;
    this.savedStep = state.step;
    if (state.best === null || state.best.step === state.step) await publish(newest, out); // where the process ended between saving it and this
  }

  /** Starts the logs, or goes on with them after the step at which a resumed run is. */
  openLogs(): void {
    const { out, savedStep } = this;
    if (out === undefined) return;
    const from = savedStep < 0 ? {} : { resumeStep: savedStep };
    this.logs.push(new JsonlLog(join(out, "train.jsonl"), from));
    this.logs.push(new TensorBoardLog(out, from));
  }

  log(record: StepRecord): void {
    for (const log of this.logs) log.write(record);
  }

  /** Keeps the trainer as it is, if `loss`, of an evaluation, is the least so far. */
  async evaluated(loss: number): Promise<void> {
    if (!(loss < (this.best?.loss ?? Infinity))) return;
    this.best = { step: this.parts.trainer.step, loss };
    await this.write(true);
  }

  /** Writes a checkpoint of the trainer as it is, unless there is one. Throws ERR_SWITCHYARD_IO. */
  async save(): Promise<void> {
    if (this.savedStep !== this.parts.trainer.step) await this.write(this.best === null);
  }

  private async write(toPublish: boolean): Promise<void> {
    const { out, best, tokens, data } = this;
    const { trainer, sampler, options } = this.parts;
    if (out === undefined) return;
    const state = { step: trainer.step, updates: trainer.optimizer.steps, skipped: trainer.skipped, tokens, sampler: sampler.state(), data, best, options, model: trainer.model.config };
    const folder = await saveCheckpoint(out, trainer, state);
    this.savedStep = trainer.step;
    if (toPublish) await publish(folder, out);
    pruneCheckpoints(out, trainer.options.keepCheckpoints, best?.step);
  }

  [Symbol.dispose](): void {
    for (const log of this.logs) log.close();
    this.claim?.[Symbol.dispose]();
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
