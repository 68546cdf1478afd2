import { Random } from "../../src/tensor/random.js";
import { blocks } from "./blocks.js";
import { configFile } from "./config.js";
import { indexFile } from "./index-file.js";
import { gguf } from "./gguf.js";
import { json } from "./json.js";
import { safetensors } from "./safetensors.js";
import type { Target } from "./target.js";
import { tiktoken } from "./tiktoken.js";
import { tokenizerJson } from "./tokenizer-json.js";
import { vocabulary } from "./vocabulary.js";

export const targets = { json, safetensors, index: indexFile, gguf, config: configFile, vocabulary, tokenizer: tokenizerJson, tiktoken, blocks } as const satisfies Record<string, Target>;
export type TargetName = keyof typeof targets;

interface FuzzResult {
  target: TargetName;
  seed: number;
  inputs: number;
  /** Accepted and refused inputs; both must occur for a run to mean something. */
  accepted: number;
  refused: number;
  slowestMs: number;
}

/** An input may take this long: the time of the processor, the least of three runs. */
const limitMs = 250;
/** Inputs that one call of `around` holds. */
const batchInputs = 1024;

/**
 * Feeds inputs number `first` to `first + inputs - 1` of a seed to a target. Throws, naming the number, for an error of another kind than
 * the reader promises, a promise that an accepted input does not keep, and an input that takes longer than 250 ms.
 */
export function fuzz(name: TargetName, inputs: number, seed: number, options: { first?: number; progress?: (done: number) => void } = {}): FuzzResult {
  const { first = 0, progress } = options;
  const target: Target = targets[name];
  const result = { target: name, seed, inputs, accepted: 0, refused: 0, slowestMs: 0 };
  let number = first;
  const one = (): void => {
    const run = () => target.run(new Random(seed * 2 ** 32 + number));
    const start = performance.now();
    if (run()) result.accepted++;
    else result.refused++;
    let ms = performance.now() - start;
    if (ms > limitMs / 2) ms = leastTime(run);
    if (ms > limitMs) throw new Error(`took ${ms.toFixed(0)} ms`);
    result.slowestMs = Math.max(result.slowestMs, ms);
  };
  const end = first + inputs;
  try {
    for (let begin = first; begin < end; begin += batchInputs) {
      progress?.(begin - first);
      const batch = (): void => {
        for (number = begin; number < Math.min(begin + batchInputs, end); number++) one();
      };
      if (target.around === undefined) batch();
      else target.around(batch);
    }
  } catch (cause) {
    throw new Error(`${name}, seed ${seed}, input ${number}: ${(cause as Error).stack}`, { cause });
  }
  return result;
}

function leastTime(run: () => void): number {
  return Math.min(
    ...[0, 1, 2].map(() => {
      const start = process.cpuUsage();
      run();
      const { user, system } = process.cpuUsage(start);
      return (user + system) / 1000;
    }),
  );
}
