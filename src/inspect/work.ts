import { NativeEngine } from "../engine/native.js";
import type { KvType } from "../model/cache.js";
import type { LanguageModel } from "../model/language-model.js";
import { sizeOf } from "../tensor/tensor.js";
import { estimateMemory } from "./memory.js";

/** What a token asks of the machine. */
interface Work {
  /** Bytes of weights that generating a token reads: all but the embeddings' other rows and the routed experts that it does not use. */
  weightBytes: number;
  /** Bytes of keys and values for each token before it. */
  cacheBytes: number;
  /** Operations of a prompt's token with weights, two per multiply-add; not the head, which only the last token needs. */
  operations: number;
}

export function workPerToken({ config, parameters }: LanguageModel, kv: KvType): Work {
  const work = { weightBytes: 0, cacheBytes: estimateMemory(config, undefined, kv).cachePerToken, operations: 0 };
  for (const { name, shape, group } of parameters.list) {
    const share = group === "expert" && config.moe !== undefined ? config.moe.active / config.moe.experts : 1;
    const lookedUp = name === "embedding" && !config.tiedEmbeddings;
    work.weightBytes += parameters.bytes(name) * (lookedUp ? 1 / (shape[0] as number) : share);
    if (shape.length > 1 && name !== "embedding" && name !== "head") work.operations += 2 * sizeOf(shape) * share;
  }
  return work;
}

/** What the machine can do at most, on all threads. */
export interface Peaks {
  /** Bytes per second of reading memory once. */
  bandwidth: number;
  /** Operations per second in registers, on 8-bit integers if the model has quantised weights, on bf16 if it has those, in f32 otherwise. */
  operations: number;
}

/** Bytes read to measure the bandwidth: many times the caches. */
const probeBytes = 2 ** 28;

/** Each figure is the best of so many. */
const rounds = 5;

const best = (measure: () => number): number => Math.max(...Array.from({ length: rounds }, measure));

/** Both peaks; undefined on the reference engine, which measures nothing. */
export function measurePeaks({ engine, parameters }: LanguageModel): Peaks | undefined {
  if (!(engine instanceof NativeEngine)) return undefined;
  return { bandwidth: measureBandwidth(engine), operations: best(() => engine.peakGflops(parameters.operands) * 1e9) };
}

/** Bytes per second at which all threads read memory once. */
export function measureBandwidth(engine: NativeEngine): number {
  const region = engine.allocate(probeBytes);
  try {
    const probe = region.tensor("f32", [probeBytes / 4], 0);
    engine.fill(probe, 1);
    return best(() => engine.readBandwidth(probe) * 1e9);
  } finally {
    region.free();
  }
}
