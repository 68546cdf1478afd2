import type { Tape } from "../autograd/tape.js";
import { linear, scale, softmax, topK } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import { balanceLoss, zLoss } from "./balance.js";
import { applyCapacity, countExperts, expertCapacity } from "./capacity.js";
import { checkRouterConfig, checkRouterInput, choosesPerToken } from "./config.js";
import { allExperts } from "./dense.js";
import { expertChoice } from "./expert-choice.js";
import { hashExperts } from "./hash.js";
import { jitter } from "./jitter.js";
import { noisyLogits } from "./noisy-top-k.js";
import { expertWeights, probabilities, scoreFunction } from "./parametric.js";
import { gumbelLogits } from "./stochastic.js";
import type { RouterConfig, RouterInput, Routing } from "./types.js";

export { checkRouterConfig } from "./config.js";

/**
 * The routing decision for x [T,D]. Pure: the same input, parameters and tape seed give the same decision.
 * The projection is always in f32: rounding it to bf16 would change choices.
 * Throws ERR_SWITCHYARD_CONFIG or ERR_SWITCHYARD_SHAPE.
 */
export function route(config: RouterConfig, input: RouterInput): Routing {
  const { tape, k, parameters, tokenIds } = input;
  checkRouterConfig(config, parameters.weight.rows, k);
  checkRouterInput(config, input);
  const x = jitter(tape, input.x, config.jitter);
  const clean = linear(tape, x, parameters.weight, parameters.bias, "f32");
  const noisy = parameters.noise !== undefined && wantsLosses(tape) ? noisyLogits(tape, x, clean, parameters.noise) : undefined;
  return decide(config, { tape, logits: noisy?.logits ?? clean, k, selectionBias: parameters.selectionBias, tokenIds, noise: noisy });
}

export interface DecisionInput {
  tape: Tape;
  /** [T,E]: the projection, bias and noise included. */
  logits: Tensor;
  k: number;
  selectionBias?: Tensor | undefined;
  /** i32 [T]; needed by hash routing. */
  tokenIds?: Tensor | undefined;
  /** Of noisy top-k, for the load loss: logits without noise and the noise's deviation, [T,E]. */
  noise?: { clean: Tensor; deviation: Tensor } | undefined;
}

/** The decision from logits: `route` without its projection and checks. */
export function decide(config: RouterConfig, input: DecisionInput): Routing {
  const { tape, logits, k } = input;
  const compared = scoreFunction(tape, config.score, logits);
  const scores = config.score === "logits" ? softmax(tape, logits) : compared;
  // Gumbel noise belongs on logits, a bias and groups on scores.
  const choice = config.selection === "stochastic" && tape.training ? scoreFunction(tape, config.score, gumbelLogits(tape, logits)) : compared;
  const chosen = chooseExperts(config, input, choice);
  const weights = expertWeights(tape, config, logits, compared, chosen);
  const count = once(() => countExperts(tape.engine.read(chosen), chosen.cols, logits.cols));
  const perToken = choosesPerToken(config.selection);
  const { capacity } = config;
  // Expert choice fills every expert to its capacity and never beyond.
  const overflows = capacity !== undefined && config.selection !== "expert-choice";
  const kept = overflows ? applyCapacity(tape, chosen, weights, rowsPerExpert(config, tape, logits, k), capacity.drop, logits.cols) : undefined;
  const decision = {
    logits,
    scores,
    choice: perToken ? choice : undefined,
    selectionBias: perToken ? input.selectionBias : undefined,
    chosen: overflows ? chosen : undefined,
    experts: kept?.experts ?? chosen,
    weights: kept?.weights ?? weights,
    filled: perToken && !overflows,
    dropped: kept?.dropped ?? 0,
  };
  const counts = () => ({ load: count().load, fullyDropped: kept?.fullyDropped ?? count().empty });
  const terms = once(() => (wantsLosses(tape) ? routingLosses(config, input, { scores, experts: chosen, weights, load: count().load }) : { losses: {}, raw: {} }));
  Object.defineProperty(decision, asked, { value: { counts, terms } });
  return Object.defineProperties(decision, later) as Routing;
}

type Counts = Pick<Routing, "load" | "fullyDropped">;
type Terms = Pick<Routing, "losses" | "raw">;

/**
 * What is computed of a decision when it is asked for: to read engine memory is to wait for all ops so far. Not in a WeakMap, whose entries only a full
 * collection frees.
 */
const asked = Symbol("asked");
const askedOf = (decision: object) => (decision as { [asked]: { counts: () => Counts; terms: () => Terms } })[asked];
/** The same functions for all decisions, which so have one hidden class. */
const later = {
  load: { enumerable: true, get: function load(this: object) { return askedOf(this).counts().load; } },
  fullyDropped: { enumerable: true, get: function fullyDropped(this: object) { return askedOf(this).counts().fullyDropped; } },
  losses: { enumerable: true, get: function losses(this: object) { return askedOf(this).terms().losses; } },
  raw: { enumerable: true, get: function raw(this: object) { return askedOf(this).terms().raw; } },
};

function once<T>(compute: () => T): () => T {
  let known: T | undefined;
  return () => (known ??= compute());
}

/** Losses and their noise cost time, so that plain inference leaves them out. */
const wantsLosses = (tape: Tape): boolean => tape.training || tape.recording;

/** The configured capacity; that of factor 1, k experts per token on average, where none is. */
function rowsPerExpert({ capacity }: RouterConfig, tape: Tape, logits: Tensor, k: number): number {
  return expertCapacity((tape.training ? capacity?.train : capacity?.eval) ?? 1, logits.rows, k, logits.cols);
}

/** i32 [T,K'], before any drop. */
function chooseExperts(config: RouterConfig, { tape, logits, k, selectionBias, tokenIds }: DecisionInput, choice: Tensor): Tensor {
  switch (config.selection) {
    case "top-k":
    case "noisy-top-k":
    case "stochastic":
      return topK(tape, choice, k, { bias: config.selectionBias ? selectionBias : undefined, groups: config.groups });
    case "expert-choice":
      return expertChoice(tape, choice, rowsPerExpert(config, tape, logits, k));
    case "dense":
      return allExperts(tape, choice);
    case "hash":
      return hashExperts(tape, tokenIds as Tensor, k, logits.cols);
  }
}

type Decision = Pick<Routing, "scores" | "experts" | "weights" | "load">;

function routingLosses(config: RouterConfig, { tape, logits, noise }: DecisionInput, { scores, experts, weights, load }: Decision): Terms {
  const losses: Record<string, Tensor> = {};
  const raw: Record<string, number> = {};
  const term = (name: string, coefficient: number, value: () => Tensor) => {
    if (coefficient === 0) return;
    const loss = value();
    losses[name] = scale(tape, loss, coefficient);
    raw[name] = tape.engine.read(loss)[0] as number;
  };
  const { balance } = config;
  if (balance.method !== "none" && balance.method !== "loss-free") {
    const estimate = { logits, clean: noise?.clean ?? logits, deviation: noise?.deviation ?? 1 / logits.cols };
    term("balance", balance.coefficient, () => balanceLoss(tape, balance.method, { probabilities: probabilities(tape, config.score, scores), experts, weights, load, estimate }));
  }
  term("z", config.zLoss, () => zLoss(tape, logits));
  return { losses, raw };
}
