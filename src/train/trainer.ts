import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check, SwitchyardError } from "../errors.js";
import type { LanguageModel } from "../model/language-model.js";
import { loss } from "../model/transformer.js";
import { updateSelectionBias } from "../routing/balance.js";
import type { Routing } from "../routing/types.js";
import { AdamW, defaultOptimizer, type GradientNorms } from "./optimizer.js";
import type { TrainOptions } from "./options.js";
import { scheduleFactor } from "./schedule.js";

/** Tokens of one batch: i32-valued, [batch * context] each, targets being the inputs' successors. */
export interface Batch {
  inputs: ArrayLike<number>;
  targets: ArrayLike<number>;
  /** Sequences. */
  batch: number;
}

export interface StepResult {
  /** Means over the accumulated batches, in nats. */
  loss: number;
  crossEntropy: number;
  learningRate: number;
  norms: GradientNorms;
  tokens: number;
  /** Floating-point operations of the matrix products. */
  flops: number;
  /** Choices per expert of each sparse layer over the whole step. */
  load: Int32Array[];
  /** false: the loss or gradient was not finite and the step was skipped. */
  applied: boolean;
}

/** Consecutive non-finite steps after which training stops. */
const patience = 3;

/** What turns batches into updates: forward, backward, clipping, AdamW, selection biases. Deterministic given its state. */
export class Trainer {
  readonly optimizer: AdamW;
  /** Steps done, skipped ones included. */
  step = 0;
  /** Steps skipped because something was not finite. */
  skipped = 0;
  private consecutive = 0;
  private readonly arena: Arena;

  /** Gives the parameters of `model` gradients and moments. Throws ERR_SWITCHYARD_MEMORY, ERR_SWITCHYARD_UNSUPPORTED for a model whose experts have biases, or layers without a backward pass. */
  constructor(
    readonly model: LanguageModel,
    readonly options: TrainOptions,
  ) {
    const mixer = model.config.mixers.find((one) => (one.kind === "latent" ? one.index !== undefined : one.kind !== "attention"));
    check(mixer === undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `train: ${mixer?.kind === "latent" ? "sparse latent attention" : mixer?.kind} has no backward pass, so a model with such layers can be run but not trained`);
    const bias = model.parameters.list.find(({ name, trainable }) => trainable && name.endsWith(".experts.upBias"));
    check(bias === undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `train: ${bias?.name} gets no gradient, so a model with it can be run but not trained`);
    this.optimizer = new AdamW(model.parameters, { ...options, decay: defaultOptimizer.decay });
    this.arena = new Arena(model.engine);
  }

  /**
   * One optimiser step over `accumulation` batches. `observe` sees each batch's routing while it is alive.
   * Throws ERR_SWITCHYARD_DIVERGED after three steps in a row with a non-finite loss or gradient.
   */
  train(nextBatch: () => Batch, observe?: (routings: readonly Routing[]) => void): StepResult {
    const { model, options, optimizer } = this;
    const { accumulation } = options;
    const result = { loss: 0, crossEntropy: 0, tokens: 0, flops: 0, load: [] as Int32Array[] };
    optimizer.clearGradients();
    for (let micro = 0; micro < accumulation; micro++) {
      this.arena.reset();
      const tape = new Tape(model.engine, this.arena, { recording: true, training: true, precision: options.precision, seed: (options.seed % 2 ** 32) + (this.step * accumulation + micro) * 0x1000193 });
      const { inputs, targets, batch } = nextBatch();
      check(inputs.length === targets.length && inputs.length > 0 && inputs.length % batch === 0, "ERR_SWITCHYARD_USAGE", () => `train: expected as many targets as inputs, for ${batch} sequences of one length, got ${inputs.length} and ${targets.length}`);
      const ids = tape.constant([inputs.length], inputs, "i32");
      const { total, crossEntropy, routings } = loss(tape, model, { ids, batch, dropout: options.dropout }, tape.constant([targets.length], targets, "i32"));
      result.loss += (model.engine.read(total)[0] as number) / accumulation;
      result.crossEntropy += (model.engine.read(crossEntropy)[0] as number) / accumulation;
      result.tokens += inputs.length;
      observe?.(routings);
      routings.forEach(({ load }, l) => {
        const sum = (result.load[l] ??= new Int32Array(load.length));
        load.forEach((n, e) => (sum[e] = (sum[e] as number) + n));
      });
      tape.backward(total, 1 / accumulation);
      result.flops += tape.flops;
    }
    const norms = optimizer.gradientNorms();
    const learningRate = options.learningRate * scheduleFactor(this.step, options.schedule);
    const applied = Number.isFinite(result.loss) && Number.isFinite(norms.total);
    this.step++;
    if (applied) {
      this.consecutive = 0;
      optimizer.step(learningRate, norms);
      this.balance(result.load);
    } else {
      this.skipped++;
      if (++this.consecutive >= patience) {
        throw new SwitchyardError(
          "ERR_SWITCHYARD_DIVERGED",
          `train: loss ${result.loss} and gradient norm ${norms.total} at step ${this.step}, not finite for ${patience} steps in a row; resume from the last checkpoint, or begin again, with a lower learning rate`,
        );
      }
    }
    return { norms, learningRate, applied, ...result };
  }

  /** Loss-free balancing: moves each layer's selection bias against its load of this step. */
  private balance(loads: readonly Int32Array[]): void {
    const { config, parameters, engine } = this.model;
    if (config.moe?.router.balance.method !== "loss-free") return;
    const { balance } = config.moe.router;
    config.sparseLayers.forEach((l, i) => updateSelectionBias(engine, parameters.get(`layers.${l}.router.selectionBias`), loads[i] as Int32Array, balance));
  }

  [Symbol.dispose](): void {
    this.optimizer[Symbol.dispose]();
    this.arena[Symbol.dispose]();
  }
}
