import { check, checker } from "../errors.js";
import { checkShape } from "../tensor/tensor.js";
import type { Balance, DropPolicy, RouterConfig, RouterInput, Selection } from "./types.js";

export const balanceMethods = ["none", "switch", "gshard", "importance", "load", "entropy", "loss-free"] as const satisfies readonly Balance["method"][];

/** What goes with each way of choosing. perToken: each token takes its k best, so a selection bias and groups have a meaning. */
const selections: Readonly<Record<Selection, { perToken: boolean; balance: readonly Balance["method"][] }>> = {
  "top-k": { perToken: true, balance: balanceMethods },
  "noisy-top-k": { perToken: true, balance: balanceMethods },
  stochastic: { perToken: true, balance: balanceMethods },
  "expert-choice": { perToken: false, balance: ["none"] },
  dense: { perToken: false, balance: ["none", "importance", "entropy"] },
  hash: { perToken: false, balance: ["none"] },
};
const drops: readonly DropPolicy[] = ["position", "probability", "batch-prioritised"];

/** Whether each token takes the k best of its own scores. */
export const choosesPerToken = (selection: Selection): boolean => selections[selection].perToken;

/** Throws ERR_SWITCHYARD_CONFIG naming the field unless the config makes sense for E experts, k per token. It may come from a file. */
export function checkRouterConfig(config: RouterConfig, experts: number, k: number): void {
  const require = checker("ERR_SWITCHYARD_CONFIG", "router");
  const oneOf = (name: string, value: unknown, known: readonly string[]) =>
    require(known.includes(value as string), () => `${name}: expected one of ${known.join(", ")}, got ${JSON.stringify(value)}`);
  const atLeast0 = (name: string, value: unknown) =>
    require(typeof value === "number" && value >= 0 && value < Infinity, () => `${name}: expected a number of at least 0, got ${value}`);
  const positive = (name: string, value: unknown) =>
    require(typeof value === "number" && value > 0 && value < Infinity, () => `${name}: expected a positive number, got ${value}`);

  require(typeof config === "object" && config !== null, () => `expected an object, got ${JSON.stringify(config)}; start from routerConfig("mixtral")`);
  require(Number.isInteger(experts) && experts >= 1, () => `expected a positive number of experts, got ${experts}`);
  require(Number.isInteger(k) && k >= 1 && k <= experts, () => `k: expected 1 to ${experts} experts per token, the number of experts, got ${k}`);
  const { selection, score, weight, normalize, groups, capacity, balance } = config;
  oneOf("selection", selection, Object.keys(selections));
  oneOf("score", score, ["softmax", "sigmoid", "sqrt-softplus", "logits"]);
  oneOf("weight", weight, ["score", "softmax", "sigmoid", "sparsemixer"]);
  require((weight === "sparsemixer") === (config.closeness !== undefined), () => `closeness: expected with weight "sparsemixer" only, got ${config.closeness} with "${weight}"`);
  if (weight === "sparsemixer") {
    atLeast0("closeness", config.closeness);
    require(score === "logits" && selection === "top-k" && groups === undefined && !config.selectionBias, () => "sparsemixer chooses the experts of the largest logits: score must be logits, selection top-k, without groups or selectionBias");
  }
  require(typeof config.bias === "boolean" && typeof config.selectionBias === "boolean", () => "bias and selectionBias: expected true or false");
  positive("scale", config.scale);
  atLeast0("zLoss", config.zLoss);
  require(typeof config.jitter === "number" && config.jitter >= 0 && config.jitter < 1, () => `jitter: expected a number in [0, 1), got ${config.jitter}`);

  if (normalize !== undefined) {
    atLeast0("normalize.eps", normalize.eps);
    if (normalize.least !== undefined) atLeast0("normalize.least", normalize.least);
    require(typeof normalize.p === "number" && normalize.p >= 1 && normalize.p < Infinity, () => `normalize.p: expected a number of at least 1, got ${normalize.p}`);
    require(score !== "logits" || weight !== "score", () => "normalize: raw logits as weights can be negative or sum to 0; set weight to softmax or sigmoid");
  }
  if (groups !== undefined) {
    const { count, keep } = groups;
    oneOf("groups.score", groups.score, ["max", "top2sum"]);
    require(Number.isInteger(count) && count >= 1 && experts % count === 0, () => `groups.count: expected a divisor of the ${experts} experts, got ${count}`);
    require(Number.isInteger(keep) && keep >= 1 && keep <= count, () => `groups.keep: expected 1 to ${count}, the number of groups, got ${keep}`);
    require(keep * (experts / count) >= k, () => `groups: ${keep} groups of ${experts / count} hold fewer than k = ${k} experts; keep more`);
  }
  if (capacity !== undefined) {
    positive("capacity.train", capacity.train);
    positive("capacity.eval", capacity.eval);
    oneOf("capacity.drop", capacity.drop, drops);
  }
  // Before what is said of the selection bias, which loss-free balancing brings along.
  require(typeof balance !== "string", () => `balance: expected an object, as { method: ${JSON.stringify(balance)}, ... }, got a text`);
  const method = balance?.method;
  const balances = selections[selection].balance;
  require(balances.includes(method), () => `balance: ${selection} goes with ${balances.join(", ")}, got ${JSON.stringify(method ?? balance)}`);
  const perTokenOnly = config.selectionBias || groups !== undefined;
  require(choosesPerToken(selection) || !perTokenOnly, () => `${selection} does not choose each token's best experts: remove selectionBias and groups`);
  require(selection !== "dense" || capacity === undefined, () => "dense gives every expert every token: remove capacity");
  require(selection !== "expert-choice" || weight === "score", () => `expert-choice gives tokens different numbers of experts: weight must be "score", got "${weight}"`);
  require(selection !== "expert-choice" || normalize === undefined || normalize.eps > 0, () => "expert-choice leaves tokens without experts: normalize.eps must be positive");

  if (balance.method === "loss-free") {
    positive("balance.rate", balance.rate);
    oneOf("balance.update", balance.update, ["sign", "proportional"]);
    require(config.selectionBias, () => "balance: loss-free needs selectionBias: true, the bias that it moves");
  } else if (balance.method !== "none") atLeast0("balance.coefficient", balance.coefficient);
  require(method !== "load" || k < experts, () => `balance: load needs more experts than k, got ${experts} and ${k}`);
}

/** Throws unless the tensors that the config calls for are there and fit together. */
export function checkRouterInput(config: RouterConfig, { x, parameters, tokenIds }: RouterInput): void {
  const { weight, bias, noise, selectionBias } = parameters;
  const [E = 0] = weight.shape;
  checkShape("router", "weight", weight, [E, x.cols]);
  check(x.shape.length === 2 && x.rows >= 1, "ERR_SWITCHYARD_SHAPE", () => `router: expected an input [T, D] of at least one token, got ${x}`);
  const wanted = [
    ["bias", config.bias, bias, [E]],
    ["noise", config.selection === "noisy-top-k", noise, [E, x.cols]],
    ["selectionBias", config.selectionBias, selectionBias, [E]],
  ] as const;
  for (const [name, needed, tensor, shape] of wanted) {
    check(
      (tensor !== undefined) === needed,
      "ERR_SWITCHYARD_CONFIG",
      () => `router: the config ${needed ? "needs" : "has no"} ${name} [${shape.join(", ")}], the parameters have ${tensor ?? "none"}`,
    );
    if (tensor !== undefined) checkShape("router", name, tensor, shape);
  }
  if (config.selection !== "hash") return;
  check(tokenIds !== undefined, "ERR_SWITCHYARD_CONFIG", () => "router: hash routing chooses by token id; pass tokenIds, i32 [T]");
  check(tokenIds.dtype === "i32" && tokenIds.size === x.rows, "ERR_SWITCHYARD_SHAPE", () => `router: expected tokenIds i32[${x.rows}], got ${tokenIds}`);
}
