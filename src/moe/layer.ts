import type { Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { add, gatherColumns, linear, mul, scale, softmax, unary } from "../ops/index.js";
import { route } from "../routing/route.js";
import type { Router, RouterConfig, RouterParameters, Routing } from "../routing/types.js";
import type { Tensor } from "../tensor/tensor.js";
import { type ExpertParameters, feedForward, type FeedForwardParameters, type FeedForwardShape, routedExperts } from "./experts.js";
import { type DispatchPlan, dispatchPlan } from "./plan.js";

/** A dense feed-forward network beside the routed experts that sees every token. */
export interface SharedExpert {
  /** Its hidden width. */
  hidden: number;
  /**
   * add: routed + shared (DeepSeek, residual MoE). average: half of that (Cohere). sigmoid: routed + sigmoid(w x) * shared (Qwen2-MoE).
   * softmax: c0 * routed + c1 * shared with (c0, c1) = softmax(w x) (PR-MoE, Rajbhandari et al. 2022).
   */
  combine: "add" | "average" | "sigmoid" | "softmax";
}

export interface MoeConfig extends FeedForwardShape {
  /** E */
  experts: number;
  /** K, experts per token. */
  active: number;
  /** F, hidden width of one expert. */
  hidden: number;
  /** The experts have biases. */
  bias?: boolean | undefined;
  router: RouterConfig;
  shared?: SharedExpert | undefined;
}

export interface MoeParameters {
  router: RouterParameters;
  /** Or what makes them ready once it is known which have rows. `decide` routes the same tokens by the router of another layer. */
  experts: ExpertParameters | ((plan: DispatchPlan, decide: (router: RouterParameters) => Routing) => ExpertParameters);
  shared?: FeedForwardParameters | undefined;
  /** [1, D] for sigmoid, [2, D] for softmax. */
  sharedGate?: Tensor | undefined;
}

export interface MoeOutput {
  /** [T, D] */
  out: Tensor;
  routing: Routing;
}

/** The sparse layer: router -> dispatch plan -> grouped experts -> combine, plus the shared expert. `router` replaces the configured one. */
export function moeLayer(tape: Tape, x: Tensor, parameters: MoeParameters, config: MoeConfig, tokenIds?: Tensor, router?: Router): MoeOutput {
  const decide = (own: RouterParameters) => {
    const input = { tape, x, parameters: own, k: config.active, tokenIds };
    return router === undefined ? route(config.router, input) : router(input);
  };
  const routing = decide(parameters.router);
  // To ask for the load itself would be to wait for all ops so far.
  check(typeof routing === "object" && routing !== null && "load" in routing, "ERR_SWITCHYARD_CONFIG", () => "router: expected a whole routing decision as its result; make the router with defineRouter");
  const plan = dispatchPlan(tape, routing);
  const experts = typeof parameters.experts === "function" ? parameters.experts(plan, decide) : parameters.experts;
  const routed = routedExperts(tape, x, routing, plan, experts, config);
  if (config.shared === undefined || parameters.shared === undefined) return { out: routed, routing };
  const shared = feedForward(tape, x, parameters.shared, config);
  if (parameters.sharedGate === undefined) {
    const both = add(tape, routed, shared);
    return { out: config.shared.combine === "average" ? scale(tape, both, 0.5) : both, routing };
  }
  const gate = linear(tape, x, parameters.sharedGate);
  if (config.shared.combine === "sigmoid") return { out: add(tape, routed, mul(tape, shared, unary(tape, "sigmoid", gate))), routing };
  const share = softmax(tape, gate);
  const column = (j: number) => gatherColumns(tape, share, tape.constant([x.rows, 1], new Int32Array(x.rows).fill(j), "i32"));
  return { out: add(tape, mul(tape, routed, column(0)), mul(tape, shared, column(1))), routing };
}
