/** The character language model that several questions train: tiny Shakespeare in nanoGPT's CPU setting. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BatchSampler, readTexts, splitTokens, type Tokens } from "../../src/data/index.js";
import type { Engine } from "../../src/engine/engine.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { type MoeOptions, modelConfig } from "../../src/model/presets.js";
import { characterTokenizer } from "../../src/tokenizer/characters.js";
import { type Evaluation, evaluate } from "../../src/train/evaluate.js";
import { trainOptions } from "../../src/train/options.js";
import { type StepResult, Trainer } from "../../src/train/trainer.js";

export const context = 64;
export const batch = 12;
export const expertHidden = 86;
/** Hidden width of the dense model's SwiGLU: as much work as four experts. */
const denseHidden = 4 * expertHidden;

export interface Characters {
  file: string;
  /** Distinct characters, one token each. */
  vocab: number;
  training: Tokens;
  /** The last tenth. */
  validation: Tokens;
}

/** The text as tokens. Throws with what to do when there is none at `file`, $SWITCHYARD_SHAKESPEARE or beside the checkout. */
export function readCharacters(file = process.env["SWITCHYARD_SHAKESPEARE"]): Characters {
  const path = file ?? fileURLToPath(new URL("../../../../../shared/data/tinyshakespeare/input.txt", import.meta.url));
  if (!existsSync(path)) throw new Error(`no text at ${path}; give tiny Shakespeare (github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt) with --data FILE or SWITCHYARD_SHAKESPEARE`);
  const text = readTexts([path]).map((read) => read.text).join("");
  const tokenizer = characterTokenizer([text]);
  return { file: path, vocab: tokenizer.vocabSize, ...splitTokens(tokenizer.encode(text), 0.1) };
}

interface CharacterRun {
  steps: number;
  learningRate: number;
  seed: number;
  /** false: the dense model. */
  moe: MoeOptions | false;
}

/**
 * Trains 4 layers of width 128, AdamW with a warm-up of 100 steps and a cosine to a tenth of the rate, then evaluates on all of the validation
 * text. Every window of the text comes once per epoch, as `train` has it; offsets drawn at random, of which PyTorch's script trains on 12 x 2,000,
 * leave out a fifth of the text, and which fifth moves the loss by 0.01. Seconds are those of both.
 */
export async function trainCharacters(engine: Engine, { vocab, training, validation }: Characters, run: CharacterRun, onStep?: (step: StepResult) => void): Promise<Evaluation & { seconds: number }> {
  const { moe, seed, ...rates } = run;
  const config = modelConfig({ vocab, width: 128, layers: 4, heads: 4, context, hidden: denseHidden, moe });
  const options = trainOptions({ ...rates, seed, batch, warmup: 100, beta1: 0.9, beta2: 0.99, weightDecay: 0.1, clipNorm: 1 });
  const start = performance.now();
  using model = LanguageModel.create({ config, seed, engine });
  using trainer = new Trainer(model, options);
  const sampler = new BatchSampler(training, { context, batch, seed, order: "shuffled" });
  while (trainer.step < options.steps) {
    const step = trainer.train(() => sampler.next());
    onStep?.(step);
  }
  const evaluation = await evaluate(model, { data: validation, batch: 128 });
  return { ...evaluation, seconds: (performance.now() - start) / 1e3 };
}
