import { existsSync, readdirSync, rmSync } from "node:fs";
import { copyFile, link, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { check, SwitchyardError } from "../errors.js";
import { abandonedFolders, verifyFolder } from "../formats/folder.js";
import { ioError, withIoErrors } from "../formats/io.js";
import { readJsonFile } from "../formats/json.js";
import { readSafetensorsHeader } from "../formats/safetensors.js";
import { writeSafetensors } from "../formats/safetensors-writer.js";
import { readModelFolder, writeModelFolder } from "../model/folder.js";
import { readTensor, storedTensor } from "../model/stored.js";
import { sizeOf } from "../tensor/tensor.js";
import { modelDifference } from "./model-difference.js";
import type { Trainer } from "./trainer.js";

const stateFile = "trainer.json";
const momentsFile = "optimizer.safetensors";

const stateSchema = z.strictObject({
  step: z.number().int().min(0),
  updates: z.number().int().min(0),
  skipped: z.number().int().min(0),
  tokens: z.number().int().min(0),
  /** Data cursor. */
  sampler: z.unknown(),
  /** Hash of the training tokens: the cursor means nothing for other data. */
  data: z.string(),
  best: z.strictObject({ step: z.number().int(), loss: z.number() }).nullable(),
  /** As `train` was given them, so that a command can go on without repeating them. */
  options: z.unknown(),
  /** The model's whole config: config.json leaves out what matters in training alone (balance, jitter, z-loss). */
  model: z.unknown(),
});

/** What a run needs, beside weights and moments, to go on as if it had never stopped. */
export type RunState = z.output<typeof stateSchema>;

const folderOf = (out: string, step: number) => join(out, "checkpoints", `step-${String(step).padStart(8, "0")}`);

/** Checkpoint folders of a run, newest first. Throws ERR_SWITCHYARD_IO. */
export function checkpoints(out: string): { step: number; folder: string }[] {
  const parent = join(out, "checkpoints");
  if (!existsSync(parent)) return [];
  return withIoErrors("read", parent, () => readdirSync(parent))
    .flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? [])
    .map((step) => ({ step: Number(step), folder: folderOf(out, Number(step)) }))
    .sort((a, b) => b.step - a.step);
}

/**
 * Writes weights, moments and state as one complete folder (temporary folder, fsync, rename). One of the same step that is damaged becomes "....damaged".
 * Throws ERR_SWITCHYARD_IO and leaves earlier ones alone.
 */
export async function saveCheckpoint(out: string, trainer: Trainer, state: RunState): Promise<string> {
  const { model, optimizer } = trainer;
  const folder = folderOf(out, state.step);
  if (existsSync(folder) && !(await isWhole(folder))) {
    await rm(`${folder}.damaged`, { recursive: true, force: true });
    await rename(folder, `${folder}.damaged`);
  }
  const extra = async (temporary: string): Promise<void> => {
    await writeFile(join(temporary, stateFile), `${JSON.stringify(state, undefined, 2)}\n`);
    const tensors = optimizer.moments.flatMap(({ parameter: { name }, m, v }) => [storedTensor(model.engine, `m.${name}`, m), storedTensor(model.engine, `v.${name}`, v)]);
    await writeSafetensors(join(temporary, momentsFile), tensors);
  };
  await writeModelFolder(folder, model.config, model.parameters, model.tokenizer, { extra });
  return folder;
}

/** The counters and options of a checkpoint. Throws ERR_SWITCHYARD_CHECKPOINT naming the field. */
export function readRunState(folder: string): RunState {
  const path = join(folder, stateFile);
  const parsed = stateSchema.safeParse(readJsonFile(path));
  if (parsed.success) return parsed.data;
  throw new SwitchyardError("ERR_SWITCHYARD_CHECKPOINT", `${path}: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`);
}

/** Puts a checkpoint's weights, moments and counters into `trainer`. Throws ERR_SWITCHYARD_CHECKPOINT, for another model too, or ERR_SWITCHYARD_FORMAT. */
export async function restoreCheckpoint(folder: string, trainer: Trainer): Promise<RunState> {
  const { model, optimizer } = trainer;
  const state = readRunState(folder);
  const other = modelDifference(model.config, state.model);
  check(other === undefined, "ERR_SWITCHYARD_CHECKPOINT", () => `resume: the model is not the one that ${folder} was saved from (${other}); make it as for the first run, or start anew in another folder`);
  const { sources } = await readModelFolder(folder);
  for (const { name, tensor } of model.parameters.list) sources.get(name)?.read(model.engine, tensor);
  const file = join(folder, momentsFile);
  const { tensors } = readSafetensorsHeader(file);
  for (const { parameter, m, v } of optimizer.moments) {
    for (const [kind, tensor] of [["m", m], ["v", v]] as const) {
      const name = `${kind}.${parameter.name}`;
      const stored = tensors.get(name);
      check(stored !== undefined && sizeOf(stored.shape) === tensor.size, "ERR_SWITCHYARD_CHECKPOINT", () => `${file}: tensor "${name}" is missing or has another shape than the model's`);
      readTensor(model.engine, tensor, { ...stored, file });
    }
  }
  model.parameters.version++;
  trainer.step = state.step;
  trainer.skipped = state.skipped;
  optimizer.steps = state.updates;
  return state;
}

const isWhole = (folder: string): Promise<boolean> => verifyFolder(folder, { hashes: true }).then((manifest) => manifest !== undefined, () => false);

/** The newest checkpoint that is whole, passing over (and naming) those that are not. Throws ERR_SWITCHYARD_CHECKPOINT when there is none. */
export async function latestCheckpoint(out: string, warn: (message: string) => void): Promise<string> {
  const found = checkpoints(out);
  for (const { folder } of found) {
    try {
      if ((await verifyFolder(folder, { hashes: true })) !== undefined) return folder;
      warn(`${folder}: has no manifest, so it was never finished; trying the one before`);
    } catch (error) {
      warn(`${(error as Error).message}; trying the one before`);
    }
  }
  throw new SwitchyardError("ERR_SWITCHYARD_CHECKPOINT", `resume: ${found.length === 0 ? "no checkpoint" : "no complete checkpoint"} in ${join(out, "checkpoints")}; start without resuming, in another folder or after moving this one away`);
}

/** Removes all but the newest `keep` checkpoints and the one of step `best`, and what killed runs began to write. Throws ERR_SWITCHYARD_IO. */
export function pruneCheckpoints(out: string, keep: number, best: number | undefined): void {
  const old = checkpoints(out).slice(keep).filter(({ step }) => step !== best);
  const parent = join(out, "checkpoints");
  const abandoned = withIoErrors("read", parent, () => abandonedFolders(parent));
  for (const path of [...old.map(({ folder }) => folder), ...abandoned]) withIoErrors("remove", path, () => rmSync(path, { recursive: true, force: true }));
}

/**
 * Makes a checkpoint's model the run folder's own: every file appears under its final name in one step (hard link or copy, then
 * rename), so that the run folder is a complete model for any program at every moment. Throws ERR_SWITCHYARD_IO.
 */
export async function publish(checkpoint: string, out: string): Promise<void> {
  for (const name of readdirSync(checkpoint)) {
    if (name === stateFile || name === momentsFile || name === "manifest.json") continue;
    const [source, temporary, target] = [join(checkpoint, name), join(out, `.${name}.new`), join(out, name)];
    try {
      await rm(temporary, { force: true });
      await link(source, temporary).catch(() => copyFile(source, temporary));
      await rename(temporary, target);
    } catch (error) {
      throw ioError("write", target, error);
    } finally {
      await rm(temporary, { force: true }); // where the target is the same file already, rename leaves both
    }
  }
}
