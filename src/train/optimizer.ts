import { Arena } from "../engine/arena.js";
import { checkFits } from "../engine/limit.js";
import { check } from "../errors.js";
import type { Parameter, ParameterGroup } from "../model/parameter-specs.js";
import type { Parameters } from "../model/parameters.js";
import { byteLength } from "../tensor/dtype.js";
import { sizeOf, type Tensor } from "../tensor/tensor.js";

export interface OptimizerOptions {
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Which tensors decay: all, or only matrices (not norms and biases), as in nanoGPT. */
  decay: "matrices" | "all";
  /** Largest L2 norm of the whole gradient; larger ones are scaled down. Infinity: off. */
  clipNorm: number;
  /** Learning rate of the router, as a multiple of the others'. */
  routerRate: number;
}

export const defaultOptimizer: OptimizerOptions = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, decay: "matrices", clipNorm: 1, routerRate: 1 };

/** L2 norms of the gradient before clipping. */
export type GradientNorms = Record<ParameterGroup | "total", number>;

/** First and second moments of one parameter. */
interface Moments {
  parameter: Parameter;
  m: Tensor;
  v: Tensor;
}

/** AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with clipping by the global norm, over the trainable parameters of a model. */
export class AdamW {
  /** Updates done. */
  steps = 0;
  readonly moments: readonly Moments[];
  private readonly arena: Arena;

  /** Gives the trainable parameters gradients, and each its moments, zero. Throws ERR_SWITCHYARD_MEMORY. */
  constructor(
    private readonly parameters: Parameters,
    readonly options: OptimizerOptions,
  ) {
    const { engine } = parameters;
    const trainable = parameters.list.filter((p) => p.trainable);
    const elements = trainable.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    checkFits(byteLength(engine.float, 4 * elements), "train: weights, gradients and two moments take", "train a smaller model");
    parameters.requireGradients();
    this.arena = new Arena(engine);
    const zeros = (shape: readonly number[]): Tensor => {
      const tensor = this.arena.alloc(engine.float, shape);
      engine.fill(tensor, 0);
      return tensor;
    };
    try {
      this.moments = trainable.map((parameter) => ({ parameter, m: zeros(parameter.shape), v: zeros(parameter.shape) }));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Marks every gradient as empty; the next backward pass overwrites it. */
  clearGradients(): void {
    for (const { parameter } of this.moments) parameter.tensor.gradWritten = false;
  }

  /** Norms of the gradients as they stand; parameters that no loss reached count as zero. */
  gradientNorms(): GradientNorms {
    const { engine } = this.parameters;
    const squares: Record<ParameterGroup, number> = { dense: 0, expert: 0, router: 0 };
    for (const group of ["dense", "expert", "router"] as const) {
      const tensors = this.moments.filter(({ parameter }) => parameter.group === group).map(({ parameter: { tensor } }) => gradientOf(tensor));
      for (const { tensor, grad } of tensors) {
        if (!tensor.gradWritten) engine.fill(grad, 0);
        const { sum, known } = tensor.gradSquares ?? {};
        squares[group] += tensor.gradWritten && known && sum !== undefined ? (engine.read(sum)[0] as number) : engine.sumSquares(grad);
      }
    }
    const { dense, expert, router } = squares;
    return { total: Math.sqrt(dense + expert + router), dense: Math.sqrt(dense), expert: Math.sqrt(expert), router: Math.sqrt(router) };
  }

  /** One update at `learningRate`, with the norms that `gradientNorms` has just returned. */
  step(learningRate: number, norms: GradientNorms): void {
    const { beta1, beta2, eps, weightDecay, decay, clipNorm, routerRate } = this.options;
    const gradScale = norms.total > clipNorm ? clipNorm / (norms.total + 1e-6) : 1;
    const step = ++this.steps;
    this.parameters.version++;
    this.parameters.engine.together(() => {
      for (const { parameter, m, v } of this.moments) {
        this.parameters.engine.adamW(parameter.tensor, gradientOf(parameter.tensor).grad, m, v, {
          learningRate: parameter.group === "router" ? learningRate * routerRate : learningRate,
          weightDecay: decay === "all" || parameter.shape.length > 1 ? weightDecay : 0,
          beta1,
          beta2,
          eps,
          step,
          gradScale,
        });
      }
    });
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}

function gradientOf(tensor: Tensor): { tensor: Tensor; grad: Tensor } {
  const { grad } = tensor;
  check(grad !== undefined, "ERR_SWITCHYARD_USAGE", () => `optimizer: ${tensor} has no gradient; call requireGradients first`);
  return { tensor, grad };
}
