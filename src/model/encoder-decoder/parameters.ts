import { Arena } from "../../engine/arena.js";
import type { Engine } from "../../engine/engine.js";
import { check } from "../../errors.js";
import { sizeOf, type Tensor } from "../../tensor/tensor.js";
import { type EncoderDecoderConfig, isSparse, stackNames } from "./config.js";

export interface EncoderDecoderSpec {
  /** "embedding", "encoder.layers.3.attention.q", ... */
  name: string;
  shape: readonly number[];
  /** Deviation of the initial values; 0: they are ones. */
  std: number;
}

/** Every parameter, in the order of the forward pass. Initial values as in Mesh TensorFlow's T5. */
export function encoderDecoderSpecs(config: EncoderDecoderConfig): EncoderDecoderSpec[] {
  const { vocab, width: D, heads, headDim, hidden: F, distanceBuckets, moe, tiedEmbeddings } = config;
  const HD = heads * headDim;
  const specs: EncoderDecoderSpec[] = [];
  const push = (name: string, shape: readonly number[], std: number) => specs.push({ name, shape, std });
  const attention = (at: string) => {
    push(`${at}.norm`, [D], 0);
    push(`${at}.q`, [HD, D], (D * headDim) ** -0.5);
    for (const name of ["k", "v"]) push(`${at}.${name}`, [HD, D], D ** -0.5);
    push(`${at}.out`, [D, HD], HD ** -0.5);
  };
  if (tiedEmbeddings) push("embedding", [vocab, D], 1);
  for (const stack of stackNames) {
    if (!tiedEmbeddings) push(`${stack}.embedding`, [vocab, D], 1);
    push(`${stack}.positions`, [distanceBuckets, heads], D ** -0.5);
    for (let l = 0; l < config[stack].layers; l++) {
      const at = `${stack}.layers.${l}`;
      attention(`${at}.attention`);
      if (stack === "decoder") attention(`${at}.cross`);
      push(`${at}.ffn.norm`, [D], 0);
      if (isSparse(config[stack], l)) {
        push(`${at}.router.weight`, [moe.experts, D], D ** -0.5);
        if (moe.router.bias) push(`${at}.router.bias`, [moe.experts], D ** -0.5);
        push(`${at}.experts.up`, [moe.experts, moe.hidden, D], D ** -0.5);
        push(`${at}.experts.down`, [moe.experts, D, moe.hidden], moe.hidden ** -0.5);
      } else {
        push(`${at}.ffn.up`, [F, D], D ** -0.5);
        push(`${at}.ffn.down`, [D, F], F ** -0.5);
      }
    }
    push(`${stack}.norm`, [D], 0);
  }
  if (!tiedEmbeddings) push("head", [vocab, D], D ** -0.5);
  return specs;
}

/** Parameters in all, and those that work on one token: all but the experts that it does not use. */
export function countEncoderDecoderParameters(config: EncoderDecoderConfig): { total: number; active: number } {
  const sizes = encoderDecoderSpecs(config).map(({ name, shape }) => ({ size: sizeOf(shape), share: name.includes(".experts.") ? config.moe.active / config.moe.experts : 1 }));
  return { total: sizes.reduce((sum, { size }) => sum + size, 0), active: sizes.reduce((sum, { size, share }) => sum + size * share, 0) };
}

/** The parameters of one model in engine memory, by name. */
export class EncoderDecoderParameters {
  readonly list: readonly (EncoderDecoderSpec & { tensor: Tensor })[];
  private readonly byName: ReadonlyMap<string, Tensor>;
  private readonly arena: Arena;

  /** Allocates them; without `fill` they are uninitialised. Throws ERR_SWITCHYARD_MEMORY, and as `fill`. */
  constructor(
    readonly engine: Engine,
    config: EncoderDecoderConfig,
    fill?: (parameters: EncoderDecoderParameters) => void,
  ) {
    this.arena = new Arena(engine);
    this.list = encoderDecoderSpecs(config).map((spec) => ({ ...spec, tensor: this.arena.alloc(engine.float, spec.shape) }));
    this.byName = new Map(this.list.map(({ name, tensor }) => [name, tensor]));
    try {
      fill?.(this);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Random initial values; the same seed gives the same bits. */
  initialise(seed: number): void {
    this.list.forEach(({ tensor, std }, i) => {
      if (std > 0) this.engine.normal(tensor, std, (Math.imul(seed, 0x9e3779b1) + i) >>> 0);
      else this.engine.fill(tensor, 1);
    });
  }

  get(name: string): Tensor {
    const tensor = this.byName.get(name);
    check(tensor !== undefined, "ERR_SWITCHYARD_CONFIG", () => `parameters: the model has no "${name}"`);
    return tensor;
  }

  find(name: string): Tensor | undefined {
    return this.byName.get(name);
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}
