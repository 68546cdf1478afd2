import type { Tape } from "../autograd/tape.js";
import type { GroupLimit } from "../engine/engine.js";
import type { Tensor } from "../tensor/tensor.js";

/** How a token's experts are chosen. */
export type Selection =
  | "top-k" // the k best scores (plus selection bias)
  | "noisy-top-k" // Shazeer et al. 2017: learned noise on the logits, in training
  | "stochastic" // Gumbel top-k: experts sampled without replacement, in training
  | "expert-choice" // Zhou et al. 2022: each expert takes its best tokens
  | "dense" // every expert, a soft mixture (Jacobs et al. 1991)
  | "hash"; // Roller et al. 2021: a fixed function of the token id

/** What to do with the rows that an expert has no room for. */
export type DropPolicy =
  | "position" // first come, first served: the first choices of all tokens in their order, then the second ones, ...
  | "probability" // the lowest weights go
  | "batch-prioritised"; // as position, but tokens in falling order of their best weight (Riquelme et al. 2021, arXiv 2106.05974)

export type Balance =
  | { method: "none" }
  | { method: "switch" | "gshard" | "importance" | "load" | "entropy"; coefficient: number }
  | { method: "loss-free"; rate: number; update: "sign" | "proportional" };

/** One parametric router that covers nearly every published family; plain data. */
export interface RouterConfig {
  selection: Selection;
  /** Logits to scores over all experts. */
  score: "softmax" | "sigmoid" | "sqrt-softplus" | "logits";
  /**
   * Scores of the chosen experts to weights: as they are; a softmax or sigmoid of the chosen logits ("top-k before softmax"); or "sparsemixer"
   * (Liu et al. 2024, arXiv 2409.12136): the j-th weight is a softmax over the logits that are close to that of the j-th expert, those chosen
   * before left out.
   */
  weight: "score" | "softmax" | "sigmoid" | "sparsemixer";
  /** Of sparsemixer: close is a difference of at most 2 * closeness of the larger magnitude. */
  closeness?: number | undefined;
  /** Divide the k weights by their sum + eps, or by their p-norm; by `least` at least. undefined: leave them. */
  normalize?: { eps: number; p: number; least?: number | undefined } | undefined;
  /** Multiplies the weights (the routed scaling factor). */
  scale: number;
  groups?: GroupLimit | undefined;
  /** The router has a bias on its logits. */
  bias: boolean;
  /** A bias [E] that enters the choice and not the weight (DeepSeek-V3, loss-free balancing). */
  selectionBias: boolean;
  /** Training only: router input times uniform(1 - jitter, 1 + jitter) (Switch). */
  jitter: number;
  /** Rows per expert = ceil(factor * T * K / E) in training and in evaluation; undefined: dropless (expert choice: factor 1). */
  capacity?: { train: number; eval: number; drop: DropPolicy } | undefined;
  balance: Balance;
  /** Coefficient of mean(logsumexp(logits)^2) (ST-MoE); 0: off. */
  zLoss: number;
}

/** Tensors of one layer's router. */
export interface RouterParameters {
  /** [E, D] */
  weight: Tensor;
  /** [E] */
  bias?: Tensor | undefined;
  /** [E, D]: the noise of noisy top-k. */
  noise?: Tensor | undefined;
  /** [E], not trained by gradient. */
  selectionBias?: Tensor | undefined;
}

export interface RouterInput {
  tape: Tape;
  /** [T, D], what the router reads. */
  x: Tensor;
  parameters: RouterParameters;
  /** Experts per token. */
  k: number;
  /** i32 [T]; needed by hash routing. */
  tokenIds?: Tensor | undefined;
}

/** A routing decision: everything that dispatch, losses, records and statistics need. Losses are values, never side effects. */
export interface Routing {
  /** [T, E]: the layer's projection, bias and noise included. */
  logits: Tensor;
  /** [T, E]: the score function's values (of "logits": their softmax); positive, rows summing to 1 unless sigmoid or sqrt-softplus. */
  scores: Tensor;
  /** [T, E]: what the choice compared, `selectionBias` apart, where each token chose its k best; the margin of a choice is measured on it. */
  choice?: Tensor | undefined;
  /** [E]: added to `choice`. */
  selectionBias?: Tensor | undefined;
  /** i32 [T, K']: `experts` before any were dropped; undefined where none can be. */
  chosen?: Tensor | undefined;
  /** i32 [T, K'], best first; -1 where dropped. K' is K, E for dense, at most E for expert choice. */
  experts: Tensor;
  /** [T, K'], differentiable; 0 where dropped. */
  weights: Tensor;
  /** Every slot of `experts` holds one unless some are `dropped`; where false or missing, others may be empty too. */
  filled?: boolean | undefined;
  /** Choices per expert before any were dropped: integers [E]. Counted when it is first asked for, as the losses are: before the backward pass or reset of the arena. */
  readonly load: Int32Array;
  /** Choices that were dropped, and tokens that have none (left), those that no expert chose included. */
  dropped: number;
  readonly fullyDropped: number;
  /** Scaled terms to add to the training loss, by name ("balance", "z"), each one element. Empty unless the tape trains or records. */
  readonly losses: Readonly<Record<string, Tensor>>;
  /** The same terms unscaled, as numbers, so that they outlive the tape's tensors in a log. */
  readonly raw: Readonly<Record<string, number>>;
}

/** From a layer's input to its decision. Pure: the same input and tape seed give the same decision. */
export type Router = (input: RouterInput) => Routing;
