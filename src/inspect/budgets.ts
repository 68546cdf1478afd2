import { readFileSync } from "node:fs";
import { z } from "zod";
import { loadEngine } from "../engine/load.js";
import type { NativeEngine } from "../engine/native.js";
import { check, SwitchyardError } from "../errors.js";
import { withIoErrors } from "../formats/io.js";
import { conform, parseJson } from "../formats/json.js";
import { show } from "../options.js";
import { asLanguageModel } from "../model/any-model.js";
import type { ModelConfig } from "../model/config.js";
import { type ParameterSpec, parameterSpecs } from "../model/parameter-specs.js";
import { readStored } from "../model/read.js";
import { halfLife } from "../model/residency/expert-cache.js";
import { repackingBytes } from "../model/residency/repacker.js";
import { headroom, margin } from "../model/residency/room.js";
import { cachedBytes, expertBytes, storedExperts } from "../model/residency/stored-experts.js";
import { bytesInPlace } from "../model/stored-weights.js";
import { estimateMemory } from "./memory.js";
import { hitRate } from "./replacement.js";
import { measureReadRate } from "./residency.js";
import { measureBandwidth } from "./work.js";

/** What a memory budget would give. */
interface Budget {
  /** Bytes for the whole process, with a short context. */
  memory: number;
  /** Experts in memory, of all layers. */
  slots: number;
  experts: number;
  hitRate: number;
  bytesPerToken: number;
  tokensPerSecond: number;
}

export interface Budgets {
  /** Bytes per second of this machine: from memory, on all threads, and from the model's files. */
  memoryRate: number;
  readRate: number;
  /** From the smallest that works to all experts in memory. */
  budgets: Budget[];
}

const shares = [0.125, 0.25, 0.5, 0.75, 1];

/**
 * What memory budgets would give on this machine: every active byte comes from memory once per token, and those of experts that are not there
 * from the files before, one after the other. Hit rates are those of the cache's policy on a trace (a file of `generate --routing-out`); without one
 * all experts are taken to be used alike. Throws as `LanguageModel.load` with a budget does, and ERR_SWITCHYARD_FORMAT for a trace of another model.
 */
export async function expectBudgets(path: string, trace?: string): Promise<Budgets> {
  const { config, sources } = asLanguageModel(await readStored(path), path);
  const engine = loadEngine();
  const specs = new Map(parameterSpecs(config).map((spec) => [spec.name, spec]));
  const stored = storedExperts(engine, config, specs, sources);
  const { active = 0, experts: perLayer = 0 } = config.moe ?? {};
  const groups = trace === undefined ? undefined : readTrace(trace, config);
  const [experts, slot] = [stored.length * perLayer, expertBytes(stored)];
  const expertsBytes = [...cachedBytes(stored).values()].reduce((sum, bytes) => sum + bytes, 0);
  const dense = estimateMemory(config, sources).weights - expertsBytes;
  const repacking = repackingBytes(stored.flatMap(({ up, down }) => [...up, down].flat()));
  const [memoryRate, readRate] = [measureBandwidth(engine as NativeEngine), measureReadRate(engine, stored)];
  const perToken = (expertsBytes / experts) * active * stored.length;
  // Of an embedding table that is not the output's too, a token reads one row.
  const lookedUp = config.tiedEmbeddings ? 0 : bytesInPlace(specs.get("embedding") as ParameterSpec, sources.get("embedding")) * (1 - 1 / config.vocab);
  const budgetOf = (slots: number): Budget => {
    const rate = slots === experts ? 1 : groups === undefined ? slots / experts : hitRate(groups, slots, { halfLife }, stored.length);
    const bytesPerToken = (1 - rate) * perToken;
    return { memory: process.memoryUsage.rss() + headroom + margin + dense + repacking + slots * slot, slots, experts, hitRate: rate, bytesPerToken, tokensPerSecond: 1 / ((dense - lookedUp + perToken) / memoryRate + bytesPerToken / readRate) };
  };
  const counts = [perLayer, ...shares.map((share) => Math.round(share * experts)).filter((slots) => slots > perLayer)];
  return { memoryRate, readRate, budgets: counts.map(budgetOf) };
}

const line = z.object({ layers: z.array(z.object({ layer: z.number(), experts: z.array(z.number().int().min(0)) })) });

const remedy = "record a trace with: npx switchyard generate MODEL PROMPT --routing-out FILE";

function readLine(text: string, source: string): z.infer<typeof line> {
  try {
    return conform(line, parseJson(Buffer.from(text), source), source);
  } catch (cause) {
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: expected a file that switchyard generate --routing-out wrote, got ${show(text.slice(0, 60))}; ${remedy}`, { cause });
  }
}

/** Per token and sparse layer the experts, numbered through all layers. */
export function readTrace(path: string, { moe, sparseLayers }: Pick<ModelConfig, "moe" | "sparseLayers">): number[][] {
  const lines = withIoErrors("read", path, () => readFileSync(path, "utf8")).trim().split("\n");
  return lines.flatMap((text, i) => {
    const { layers } = readLine(text, `${path}: line ${i + 1}`);
    const fits = layers.length === sparseLayers.length && layers.every(({ layer, experts }, l) => layer === sparseLayers[l] && experts.every((e) => e < (moe?.experts ?? 0)));
    check(fits, "ERR_SWITCHYARD_FORMAT", () => `${path}: line ${i + 1}: expected the experts of this model's ${sparseLayers.length} sparse layers; ${remedy}`);
    return layers.map(({ experts }, l) => experts.map((e) => l * (moe?.experts ?? 0) + e));
  });
}
