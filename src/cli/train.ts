import { setFlagsFromString } from "node:v8";
import { Command } from "commander";
import { SwitchyardError } from "../errors.js";
import { Progress } from "../train/log/progress.js";
import { formatDuration, formatNumber } from "../train/log/format.js";
import { checkpoints, latestCheckpoint, readRunState } from "../train/checkpoint.js";
import { train, type TrainStep } from "../train/train.js";
import { describeCommand } from "./flags.js";
import { counted, grouped, type Io, onInterrupt, printJson, quote } from "./io.js";
import { prepareRun, type PreparedRun } from "./prepare.js";
import { terminal } from "./terminal.js";
import { addTrainFlags, type TrainFlags } from "./train-flags.js";

export function trainCommand(io: Io): Command {
  const command = describeCommand(new Command("train"), "Trains a language model on text, from nothing or from its last checkpoint.", [
    "switchyard train --data book.txt --out runs/first # size xs: about a minute",
    "switchyard train --data corpus/ --size s --out runs/s # about ten minutes, with a tokenizer of its own",
    "switchyard train --data book.txt --experts 32 --top-k 4 --balance loss-free --out runs/fine",
    "switchyard train --data book.txt --dense --out runs/dense # to compare with",
    "switchyard train --data book.txt --out runs/first --resume # after Ctrl-C, or with --steps to train longer",
    "switchyard train --config run.yaml --seed 2 # keys as in the API, flags win",
  ]);
  addTrainFlags(command);
  return command.action((flags: TrainFlags) => trainAction(io, flags));
}

async function trainAction(io: Io, flags: TrainFlags): Promise<void> {
  const say = (text: string) => void io.stderr.write(`${text}\n`);
  const run = await prepareRun(flags, (message) => say(`switchyard: ${message}`));
  using model = run.model;
  if (run.startStep < run.train.steps) say(describeRun(run));
  const progress = new Progress({ totalSteps: run.train.steps, startStep: run.startStep, stream: io.stderr, env: io.env });
  using interrupt = onInterrupt(io, () => progress.message("Stopping after this step, with a checkpoint. Ctrl-C again to stop at once."));
  const started = performance.now();
  let last: TrainStep | undefined;
  const done = { tokens: 0, seconds: 0 };
  const warn = (message: string) => progress.message(`switchyard: ${message}`);
  try {
    // V8 doubles its young generation whenever as much has survived as that holds, once in some thousand steps. Garbage of steps needs no larger one.
    setFlagsFromString("--semi-space-growth-factor=1");
    for await (const step of train(model, { ...run.train, data: run.tokens, out: run.out, resume: run.resume, signal: interrupt.signal, warn })) {
      last = { ...step, evaluation: step.evaluation ?? last?.evaluation } as TrainStep;
      done.tokens += step.tokens;
      done.seconds += step.tokens / step.tokensPerSecond;
      if (step.record !== undefined) progress.update(step.record);
    }
  } catch (error) {
    const newest = await latestCheckpoint(run.out, () => undefined).catch(() => undefined);
    progress.finish();
    // With other data, a damaged checkpoint, or beside another process it does not go on.
    const goesOn = !(error instanceof SwitchyardError && ["ERR_SWITCHYARD_CHECKPOINT", "ERR_SWITCHYARD_USAGE"].includes(error.code));
    if (newest !== undefined && goesOn) say(`Step ${readRunState(newest).step} is saved; to go on from it: ${resumeCommand(run)}`);
    throw error;
  }
  progress.finish();
  const result = summary(run, last, done, (performance.now() - started) / 1e3, interrupt.signal.aborted);
  if (flags.json === true) printJson(io, result);
  else io.stdout.write(describeResult(result, terminal(io.stdout, io.env).paint));
}

function describeRun({ model, train: { steps, batch, accumulation = 1 }, startStep, tokens }: PreparedRun): string {
  const { config, engine, parameterCount } = model;
  const { moe } = config;
  const mixture = moe === undefined ? "dense" : `${moe.experts} experts, top-${moe.active}`;
  return [
    `model   ${formatNumber(parameterCount.total)} parameters, ${formatNumber(parameterCount.active)} active per token: ${counted(config.layers, "layer")} of width ${config.width}, ${mixture}`,
    `data    ${grouped(tokens.length)} tokens of ${grouped(config.vocab)} kinds`,
    `run     steps ${startStep + 1} to ${steps} of ${grouped(batch * accumulation * config.context)} tokens; ${engine.name} engine, ${engine.isa}, ${counted(engine.threads, "thread")}`,
  ].join("\n");
}

const resumeCommand = ({ data, out }: PreparedRun): string => `npx switchyard train --data ${data.map(quote).join(" ")} --out ${quote(out)} --resume`;

type Summary = ReturnType<typeof summary>;

/** `done`: tokens of this process's steps and their seconds; `seconds`: those with evaluations and checkpoints. */
function summary(run: PreparedRun, last: TrainStep | undefined, done: { tokens: number; seconds: number }, seconds: number, interrupted: boolean) {
  const { out, model, train: options, startStep, resume } = run;
  const { engine } = model;
  const [newest] = checkpoints(out);
  const step = last?.index ?? startStep;
  return {
    out,
    steps: step,
    totalSteps: Math.max(step, options.steps),
    resumedFrom: resume ? startStep : null,
    interrupted: interrupted && step < options.steps,
    parameters: model.parameterCount,
    tokens: done.tokens,
    loss: last?.loss ?? null,
    crossEntropy: last?.crossEntropy ?? null,
    validation: last?.evaluation === undefined ? null : { loss: last.evaluation.loss, perplexity: last.evaluation.perplexity },
    best: newest === undefined ? null : readRunState(newest.folder).best,
    seconds,
    tokensPerSecond: done.tokens / done.seconds,
    engine: { name: engine.name, isa: engine.isa, threads: engine.threads },
    checkpoint: newest?.folder ?? null,
    next: interrupted && step < options.steps ? resumeCommand(run) : `npx switchyard generate ${quote(out)} ${quote(run.sample)}${model.config.moe === undefined ? "" : " --routing"}`,
  };
}

function describeResult(result: Summary, paint: ReturnType<typeof terminal>["paint"]): string {
  const { steps, totalSteps, loss, validation, best, seconds, tokens, tokensPerSecond, interrupted, out, next } = result;
  const lines = [`${interrupted ? "Stopped" : "Done"} at step ${steps} of ${totalSteps}`];
  if (loss !== null) {
    lines[0] += `: ${formatNumber(tokens)} tokens in ${formatDuration(seconds)}, ${formatNumber(tokensPerSecond)} tokens/s in training`;
    lines.push(`loss ${paint(loss.toFixed(3), "cyan")} in training${validation === null ? "" : `, ${paint(validation.loss.toFixed(3), "cyan")} on the validation part`}${best === null ? "" : ` (best ${best.loss.toFixed(3)} at step ${best.step})`}`);
    lines.push(`model, checkpoints and logs are in ${paint(out, "bold")}`);
  }
  return `${[...lines, "", `${interrupted ? "Go on with" : "Try next"}:  ${next}`].join("\n")}\n`;
}
