import type { Engine } from "../engine/engine.js";
import { sizeOf, type Tensor } from "../tensor/tensor.js";
import { type AnyConfig, isEncoderDecoder } from "./encoder-decoder/config.js";
import { encoderDecoderSpecs } from "./encoder-decoder/parameter-specs.js";
import { mixerOf } from "./mixer.js";

/** What a parameter belongs to: its learning rate, its gradient norm in the log, its place in the active count. */
export type ParameterGroup = "dense" | "expert" | "router";

export interface ParameterSpec {
  name: string;
  shape: readonly number[];
  group: ParameterGroup;
  /** Initial value: normal with this deviation, or a constant. */
  init: { std: number } | { constant: number };
  /** false: not changed by the optimiser (the selection bias). */
  trainable: boolean;
  /** As MixerParameter has it. */
  apart?: true | undefined;
}

export interface Parameter extends ParameterSpec {
  readonly tensor: Tensor;
}

/** Random initial values; the same seed gives the same bits. */
export function initialise({ engine, list }: { engine: Engine; list: readonly Parameter[] }, seed: number): void {
  list.forEach(({ tensor, init }, i) => {
    if ("std" in init) engine.normal(tensor, init.std, (Math.imul(seed, 0x9e3779b1) + i) >>> 0);
    else engine.fill(tensor, init.constant);
  });
}

/** How a parameter starts; "residual": a projection back into the residual stream. */
export type Init = "normal" | "residual" | "one" | "zero";

/**
 * Deviation of initial weights: sqrt(2 / 5D) (Nguyen and Salazar 2019, arXiv 1910.05895), which is GPT-2's 0.02 at a width of 1000. Narrower
 * models want more than that, experts most of all. Projections back into the residual stream get it divided by sqrt(2 L), as in GPT-2.
 */
const initStd = (width: number): number => Math.sqrt(2 / (5 * width));

/** Every parameter of a model, in the order of the forward pass. Names: "layers.3.experts.up", ... */
export function parameterSpecs(config: AnyConfig): ParameterSpec[] {
  if (isEncoderDecoder(config)) return encoderDecoderSpecs(config);
  const { width: D, moe } = config;
  const specs: ParameterSpec[] = [];
  const push = (name: string, shape: readonly number[], init: ParameterSpec["init"], group: ParameterGroup = "dense", trainable = true) =>
    specs.push({ name, shape, group, init, trainable });
  const std = initStd(D);
  const inits = { normal: { std }, residual: { std: std / Math.sqrt(2 * config.layers) }, one: { constant: 1 }, zero: { constant: 0 } };
  const { normal, residual, one, zero } = inits;

  /** With `bias` NAMEBias follows: one for each row or, of a vector, each element. */
  const pushBiased = (name: string, shape: readonly number[], init: ParameterSpec["init"], bias = false, group?: ParameterGroup) => {
    push(name, shape, init, group);
    if (bias) push(`${name}Bias`, shape.length === 1 ? shape : shape.slice(0, -1), zero, group);
  };
  const pushNorm = (name: string) => pushBiased(name, [D], one, config.layerNorm?.bias);
  /** One feed-forward network, or a stack of `experts`. */
  const pushFeedForward = (name: string, hidden: number, rows: number, bias: boolean, group: ParameterGroup, experts?: number) => {
    const stack = experts === undefined ? [] : [experts];
    pushBiased(`${name}.up`, [...stack, rows * hidden, D], normal, bias, group);
    pushBiased(`${name}.down`, [...stack, D, hidden], residual, bias, group);
  };
  const { branches, ffnBias = false } = config;
  const normedAfter = branches === "after" || branches === "around";

  push("embedding", [config.vocab, D], normal);
  for (let l = 0; l < config.layers; l++) {
    const at = (name: string) => `layers.${l}.${name}`;
    if (branches !== "after") pushNorm(at("attention.norm"));
    for (const { name, shape, init, bias, apart } of mixerOf(config, l).parameters(config, l)) {
      if (apart) specs.push({ name: at(`attention.${name}`), shape, group: "dense", init: inits[init], trainable: true, apart });
      else pushBiased(at(`attention.${name}`), shape, inits[init], bias);
    }
    if (normedAfter) pushNorm(at("attention.postNorm"));
    if (branches !== "after" && branches !== "parallel") pushNorm(at("ffn.norm"));
    if (moe === undefined || !config.sparseLayers.includes(l)) pushFeedForward(at("ffn"), config.hidden, 2, ffnBias, "dense");
    else {
      const rows = moe.gated ? 2 : 1;
      push(at("router.weight"), [moe.experts, D], normal, "router");
      if (moe.router.bias) push(at("router.bias"), [moe.experts], zero, "router");
      if (moe.router.selection === "noisy-top-k") push(at("router.noise"), [moe.experts, D], zero, "router");
      if (moe.router.selectionBias) push(at("router.selectionBias"), [moe.experts], zero, "router", false);
      pushFeedForward(at("experts"), moe.hidden, rows, moe.bias ?? false, "expert", moe.experts);
      if (moe.shared !== undefined) {
        const { hidden, combine } = moe.shared;
        pushFeedForward(at("shared"), hidden, rows, ffnBias, "dense");
        if (combine === "sigmoid" || combine === "softmax") push(at("shared.gate"), [combine === "sigmoid" ? 1 : 2, D], normal);
      }
    }
    if (normedAfter) pushNorm(at("ffn.postNorm"));
  }
  pushNorm("norm");
  if (!config.tiedEmbeddings) push("head", [config.vocab, D], normal);
  if (config.headBias) push("headBias", [config.vocab], zero);
  return specs;
}

/**
 * Parameters in all, and those that work on one token: all but the routed experts that it does not use. As published figures have it,
 * a selection bias, which no gradient trains, is not counted.
 */
export function countParameters(config: AnyConfig): { total: number; active: number } {
  let total = 0;
  let active = 0;
  for (const { shape, group, trainable } of parameterSpecs(config)) {
    if (!trainable) continue;
    const n = sizeOf(shape);
    total += n;
    active += group === "expert" && config.moe !== undefined ? (n / config.moe.experts) * config.moe.active : n;
  }
  return { total, active };
}
