import { check } from "../errors.js";
import { checkOptions, show } from "../options.js";
import type { RouterConfig } from "./types.js";

const plain: RouterConfig = {
  selection: "top-k",
  score: "softmax",
  weight: "score",
  scale: 1,
  bias: false,
  selectionBias: false,
  jitter: 0,
  balance: { method: "none" },
  zLoss: 0,
};
const sumToOne = { eps: 0, p: 1 };
const mixtral: RouterConfig = { ...plain, normalize: sumToOne, balance: { method: "switch", coefficient: 0.01 } };

/**
 * Routers as published, k and E apart, plain data. Coefficients are in our unit, where the auxiliary loss is 1 when balanced.
 * Those of mixtral and qwen3, which their reports do not state, are the value of Fedus et al. 2021.
 */
export const routerPresets = {
  /** The one to start with; the same as mixtral. */
  "softmax-top-k": mixtral,
  /** Jiang et al. 2024, arXiv 2401.04088: softmax over the chosen logits, here as a softmax over all, renormalised; 8 experts, k = 2. */
  mixtral,
  /** Muennighoff et al. 2024, arXiv 2409.02060: weights not renormalised; 64 experts, k = 8. */
  olmoe: { ...plain, balance: { method: "switch", coefficient: 0.01 }, zLoss: 0.001 },
  /** Yang et al. 2025, arXiv 2505.09388: renormalised; 128 experts, k = 8. */
  qwen3: mixtral,
  /** DeepSeek-AI 2024, arXiv 2412.19437: sigmoid, 4 of 8 groups, loss-free bias; 256 experts, k = 8. Its small per-sequence loss is left out. */
  "deepseek-v3": {
    ...plain,
    score: "sigmoid",
    normalize: { eps: 1e-20, p: 1 },
    scale: 2.5,
    groups: { count: 8, keep: 4, score: "top2sum" },
    selectionBias: true,
    balance: { method: "loss-free", rate: 0.001, update: "sign" },
  },
  /** Fedus et al. 2021, arXiv 2101.03961: k = 1, capacity, jitter. */
  switch: { ...plain, jitter: 0.01, capacity: { train: 1.25, eval: 2, drop: "position" }, balance: { method: "switch", coefficient: 0.01 } },
  /** Lepikhin et al. 2020, arXiv 2006.16668: k = 2, capacity 2T/E; the second expert is always used, not drawn at random. */
  gshard: { ...plain, normalize: sumToOne, capacity: { train: 1, eval: 1, drop: "position" }, balance: { method: "gshard", coefficient: 0.01 } },
  /** Shazeer et al. 2017, arXiv 1701.06538: noisy top-k with the load loss; the paper adds an importance loss of the same weight. */
  shazeer: { ...plain, selection: "noisy-top-k", weight: "softmax", balance: { method: "load", coefficient: 0.1 } },
  /** Zhou et al. 2022, arXiv 2202.09368: k experts per token on average. Not causal. */
  "expert-choice": { ...plain, selection: "expert-choice" },
} as const satisfies Record<string, RouterConfig>;

const routerFields: Record<keyof RouterConfig, true> = {
  selection: true, score: true, weight: true, closeness: true, normalize: true, scale: true, groups: true, bias: true, selectionBias: true, jitter: true, capacity: true, balance: true, zLoss: true,
};

export type RouterPreset = keyof typeof routerPresets;

/**
 * A router by name, or what differs from softmax-top-k, with overrides; the loss-free balance brings its selection bias along.
 * Throws ERR_SWITCHYARD_CONFIG for an unknown name, ERR_SWITCHYARD_USAGE for an unknown field; `checkRouterConfig` checks the rest.
 */
export function routerConfig(preset: RouterPreset | Partial<RouterConfig> = "softmax-top-k", overrides: Partial<RouterConfig> = {}): RouterConfig {
  if (typeof preset === "object") {
    const given = { ...preset, ...overrides };
    // Of a whole config what is not there is left out on purpose.
    return Object.keys(plain).every((field) => field in preset) ? withBias(given as RouterConfig, given) : routerConfig("softmax-top-k", given);
  }
  check(Object.hasOwn(routerPresets, preset), "ERR_SWITCHYARD_CONFIG", () => `router: expected one of ${Object.keys(routerPresets).join(", ")}, or a config, got ${show(preset)}`);
  return withBias({ ...routerPresets[preset], ...overrides }, overrides);
}

function withBias(config: RouterConfig, given: Partial<RouterConfig>): RouterConfig {
  checkOptions("router", given, routerFields);
  check(config.balance !== undefined, "ERR_SWITCHYARD_CONFIG", () => 'router: balance: expected a method, such as { method: "none" }, got undefined');
  return { ...config, selectionBias: given.selectionBias ?? (config.selectionBias || config.balance.method === "loss-free") };
}
