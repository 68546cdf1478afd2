import { Command } from "commander";
import { existsSync, readFileSync } from "node:fs";
import { loadTokens, splitTokens } from "../data/index.js";
import { loadEngine } from "../engine/load.js";
import { SwitchyardError } from "../errors.js";
import { modelConfig, type ModelOptions } from "../model/presets.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { formatDuration, formatNumber } from "../train/log/format.js";
import type { TrainInput } from "../train/options.js";
import { trainingPresets } from "../train/presets.js";
import { checkNewRun } from "../train/run.js";
import { declarationCorpus } from "./demo/corpus.js";
import { heatTable, inWords, lossTable, verdict } from "./demo/print.js";
import { affordableSteps, trainOne } from "./demo/race.js";
import { expertUse, revealed, shares, strongest } from "./demo/specialisation.js";
import { classifyBytes, kinds } from "./demo/token-kinds.js";
import { describeCommand, parsePositive } from "./flags.js";
import { counted, type Io, onInterrupt, printJson, quote } from "./io.js";
import { RoutingView } from "./routing-view.js";
import { terminal } from "./terminal.js";

const corpusBytes = 3_000_000;
const validation = 0.1;
/** Held-out tokens on which the models are compared in the end and their experts looked at; on the reference engine, and at each evaluation, fewer. */
const observedTokens = { native: 2 ** 17, reference: 2 ** 15 };
const evalTokens = { native: 2 ** 14, reference: 2 ** 12 };
const prompt = "export interface ";
/** What the reference engine trains in the same time. */
const smallModel = { width: 64, layers: 2, heads: 2, context: 64, hidden: 128, moe: { experts: 8, active: 2, hidden: 64 } } as const;

interface DemoFlags {
  json?: boolean;
  seconds: number;
  out?: string;
}

export function demoCommand(io: Io): Command {
  return describeCommand(new Command("demo"), "Trains a mixture of experts and an equally expensive dense model on TypeScript, and shows what became of them. About three minutes.", [
    "switchyard demo",
    "switchyard demo --seconds 120 # longer training, better models",
  ])
    .option("--seconds <n>", "time to train each of the two models, about", parsePositive, 60)
    .option("--out <dir>", "folder for the model (default: the first of runs/demo, runs/demo-2, ... that is free)")
    .action((flags: DemoFlags) => demo(io, flags));
}

async function demo(io: Io, { json = false, seconds, out = freeFolder() }: DemoFlags): Promise<void> {
  const to = json ? io.stderr : io.stdout;
  const say = (text = "") => void to.write(`${text}\n`);
  const place = terminal(to, io.env);
  const { paint } = place;
  const heading = (text: string) => say(`\n${paint(text, "bold")}`);

  checkNewRun(out);
  const engine = loadEngine();
  const small = engine.name === "reference";
  const corpus = declarationCorpus(corpusBytes);
  const tokenizer = byteTokenizer();
  const tokens = loadTokens(corpus.files, tokenizer);
  const { validation: heldOut } = splitTokens(tokens, validation);
  const options: ModelOptions = { vocab: tokenizer.vocabSize, ...(small ? smallModel : { size: "xs" }) };
  const config = modelConfig(options);
  const denseConfig = modelConfig({ ...options, moe: false });
  const moe = config.moe as NonNullable<typeof config.moe>;
  const base = { ...trainingPresets.xs, validation, evalTokens: small ? evalTokens.reference : evalTokens.native };
  const comparedTokens = small ? observedTokens.reference : observedTokens.native;

  say(`${paint("Switchyard", "bold")}: a mixture of experts learns TypeScript on this machine, beside a dense model that does equal work.\n`);
  const steps = affordableSteps({ engine, tokens, train: base }, config, seconds);
  const train: TrainInput = { ...base, steps, evalEvery: Math.ceil(steps / 8) };
  const few = corpus.packages.slice(0, 3).join(", ");
  say(`text     ${formatNumber(tokens.length)} bytes: ${corpus.files.length} declaration files of ${corpus.packages.length} packages that npm installed`);
  say(`         (${few}, ...); the last tenth is held out`);
  say(`mixture  ${config.layers} layers of ${moe.experts} experts, ${moe.active} per token; one byte is one token`);
  say(`engine   ${engine.name}, ${engine.isa}, ${counted(engine.threads, "thread")}`);
  if (small) say(paint("         There is no native engine here, so the models are smaller than usual. For full speed: npx switchyard build-engine", "yellow"));
  say(`plan     ${steps} steps of ${formatNumber(train.batch * config.context)} tokens for each model, which fits into about ${formatDuration(seconds)}`);

  using interrupt = onInterrupt(io, () => say("\nStopping after this step."));
  const common = { engine, tokenizer, tokens, heldOut, comparedTokens, train, signal: interrupt.signal };
  const finish = () => {
    if (interrupt.signal.aborted) throw new SwitchyardError("ERR_SWITCHYARD_ABORTED", `demo: stopped; what was trained is in ${out}`);
  };
  heading("Training the mixture of experts");
  const mixture = await trainOne(io, config, common, out);
  finish();
  heading("Training the dense model");
  const dense = await trainOne(io, denseConfig, common);
  finish();
  const { total, active } = mixture.model.parameterCount;

  heading("Loss on the held-out files, in nats per byte");
  say(lossTable(mixture, dense, place));
  say(`\n${verdict(mixture, dense)}`);
  say(`The mixture has ${formatNumber(total)} parameters and uses ${formatNumber(active)} per token; the dense model has ${formatNumber(dense.model.parameterCount.active)}.`);

  const { text, start } = observedText(corpus.files, tokens.length - heldOut.length);
  const uses = expertUse(mixture.model, tokens.subarray(start, start + comparedTokens), classifyBytes(text), kinds.length);
  const best = uses.toSorted((a, b) => revealed(b) - revealed(a))[0] as (typeof uses)[number];

  heading(`What it writes after "${prompt}"${place.color ? `, coloured by the first expert of layer ${best.layer}` : ""}`);
  const view = new RoutingView(mixture.model, best.layer, place);
  let completion = "";
  let last: number | undefined;
  for await (const chunk of mixture.model.generate(prompt, { temperature: 0.6, seed: 1, trace: true })) {
    if (place.color) for (const route of chunk.routing ?? []) to.write(view.token(route));
    completion += chunk.text;
    last = chunk.token;
  }
  say(place.color ? view.unrouted(last) : prompt + completion);

  heading("Which experts took which kinds of token: share of each kind's choices");
  say(`(${moe.active} experts per token, so ${Math.round(100 / moe.active)}% is every token of the kind, and ${(100 / moe.experts).toFixed(1)}% an even share)`);
  say(heatTable(uses, place));
  say();
  const top = strongest(uses, 5);
  for (const found of top) say(`  ${inWords(found, paint)}`);
  say(`  Knowing its expert in layer ${best.layer} tells ${Math.round(100 * revealed(best))}% of a token's kind (mutual information over entropy).`);

  heading("Saved");
  say(`The mixture, with its log and checkpoints, is in ${paint(out, "bold")}, in the Hugging Face layout. Try next:`);
  const next = [`generate ${quote(out)} "export declare function " --routing`, `inspect ${quote(out)}`, "train --data FILE --out DIR"].map((call) => `npx switchyard ${call}`);
  for (const call of next) say(`  ${call}`);

  if (json) {
    const describe = ({ loss, curve, seconds: time, tokensPerSecond, model }: typeof mixture) => ({ loss, curve, seconds: time, tokensPerSecond, parameters: model.parameterCount });
    const routing = uses.map((use) => ({ layer: use.layer, revealed: revealed(use), shares: shares(use) }));
    printJson(io, { out, engine: { name: engine.name, isa: engine.isa, threads: engine.threads }, steps, mixture: describe(mixture), dense: describe(dense), prompt, completion, kinds, routing, strongest: top });
  }
  mixture.model[Symbol.dispose]();
  dense.model[Symbol.dispose]();
}

/** Text from the first file that is held out as a whole, so that it starts outside of any comment; and where it starts in the stream. */
function observedText(files: readonly string[], firstHeldOut: number): { text: string; start: number } {
  let at = 0;
  const parts: Buffer[] = [];
  let start = 0;
  for (const file of files) {
    const content = readFileSync(file);
    if (at >= firstHeldOut) {
      if (parts.length === 0) start = at;
      parts.push(content);
    }
    at += content.length;
  }
  return { text: Buffer.concat(parts).toString("utf8"), start };
}

function freeFolder(): string {
  for (let n = 1; ; n++) {
    const folder = n === 1 ? "runs/demo" : `runs/demo-${n}`;
    if (!existsSync(folder)) return folder;
  }
}
