import type { Tape } from "../autograd/tape.js";
import { check } from "../errors.js";
import { softmax, unary } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { countExperts } from "./capacity.js";
import { plus, tiny } from "./parametric.js";
import type { Router, RouterInput, Routing } from "./types.js";

/** What a user's router returns: the choice, its weights, and logits or scores; everything else is optional. */
export type RouterResult = Pick<Routing, "experts" | "weights"> & Partial<Routing> & ({ logits: Tensor } | { scores: Tensor });

/**
 * A router of one's own, written with the ops of `switchyard/routing` (`topK`, `softmax`, `linear`, ...):
 *
 *     defineRouter("every-token-to-its-best", ({ tape, x, parameters, k }) => {
 *       const logits = linear(tape, x, parameters.weight);
 *       const experts = topK(tape, logits, k);
 *       return { logits, experts, weights: softmax(tape, gatherColumns(tape, logits, experts)) };
 *     });
 *
 * Missing scores are the softmax of the logits, missing logits the logarithm of the scores; load and drops are counted,
 * -1 in `experts` being an empty slot. The result is checked at each call: ERR_SWITCHYARD_SHAPE, ERR_SWITCHYARD_DTYPE,
 * ERR_SWITCHYARD_CONFIG.
 */
export function defineRouter(name: string, fn: (input: RouterInput) => RouterResult): Router {
  check(typeof name === "string" && name !== "", "ERR_SWITCHYARD_USAGE", () => `defineRouter: expected a name, got ${JSON.stringify(name)}`);
  check(typeof fn === "function", "ERR_SWITCHYARD_USAGE", () => `defineRouter: expected a function of the router's input for "${name}", got ${typeof fn}`);
  return (input) => complete(`router "${name}"`, input, fn(input));
}

function complete(op: string, { tape, x, parameters }: RouterInput, result: RouterResult): Routing {
  check(!((result as unknown) instanceof Promise), "ERR_SWITCHYARD_CONFIG", () => `${op}: expected a result, got a Promise of one; a router cannot wait`);
  const { experts, weights } = result ?? {};
  check(experts !== undefined && weights !== undefined, "ERR_SWITCHYARD_CONFIG", () => `${op}: expected experts and weights in its result, got ${Object.keys(result ?? {}).join(", ") || typeof result}`);
  check(result.logits !== undefined || result.scores !== undefined, "ERR_SWITCHYARD_CONFIG", () => `${op}: expected logits or scores [T, E] in its result, got neither`);
  const E = parameters.weight.rows;
  const { logits, scores } = logitsAndScores(tape, result);
  for (const [part, t] of Object.entries({ logits, scores })) {
    check(t.shape.length === 2 && t.rows === x.rows && t.cols === E, "ERR_SWITCHYARD_SHAPE", () => `${op}: expected ${part} [${x.rows}, ${E}] (tokens, experts), got ${t}`);
  }
  check(experts.dtype === "i32", "ERR_SWITCHYARD_DTYPE", () => `${op}: expected i32 experts, as topK gives them, got ${experts}`);
  check(experts.shape.length === 2 && experts.rows === x.rows, "ERR_SWITCHYARD_SHAPE", () => `${op}: expected experts [${x.rows}, k], one row per token, got ${experts}`);
  check(weights.dtype === tape.engine.float, "ERR_SWITCHYARD_DTYPE", () => `${op}: expected ${tape.engine.float} weights, got ${weights}`);
  check(weights.shape.join() === experts.shape.join(), "ERR_SWITCHYARD_SHAPE", () => `${op}: expected one weight per expert, ${experts}, got ${weights}`);
  for (const [term, t] of Object.entries(result.losses ?? {})) {
    check(t.size === 1, "ERR_SWITCHYARD_SHAPE", () => `${op}: expected the loss "${term}" to be one element, got ${t}; take its mean`);
  }

  const experts_TK = tape.engine.read(experts);
  const wrong = experts_TK.find((e) => e < -1 || e >= E);
  check(wrong === undefined, "ERR_SWITCHYARD_CONFIG", () => `${op}: expected experts from 0 to ${E - 1} (-1: none), got ${wrong}`);
  const counted = countExperts(experts_TK, experts.cols, E);
  const { load = counted.load, dropped = 0 } = result;
  const [kept, routed] = [counted.load, load].map((l) => l.reduce((a, b) => a + b, 0)) as [number, number];
  check(
    load.length === E && routed - dropped === kept,
    "ERR_SWITCHYARD_CONFIG",
    () =>
      `${op}: its load (${routed} choices of ${load.length} experts) less ${dropped} dropped ones must leave the ${kept} ` +
      "that are in its experts; return load and dropped together, or neither",
  );
  const { choice, selectionBias, chosen, fullyDropped = counted.empty, losses = {}, raw = {} } = result;
  return { logits, scores, choice, selectionBias, chosen, experts, weights, load, dropped, fullyDropped, losses, raw };
}

function logitsAndScores(tape: Tape, { logits, scores }: RouterResult): { logits: Tensor; scores: Tensor } {
  if (logits === undefined) return { logits: unary(tape, "log", plus(tape, scores as Tensor, tiny)), scores: scores as Tensor };
  return { logits, scores: scores ?? softmax(tape, logits) };
}
