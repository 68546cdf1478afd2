import { Arena } from "../../engine/arena.js";
import type { Engine } from "../../engine/engine.js";
import { check } from "../../errors.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { ParameterSource } from "../mapped.js";
import type { Parameter } from "../parameter-specs.js";
import type { Weights } from "../staged.js";
import type { EncoderDecoderConfig } from "./config.js";
import { encoderDecoderSpecs } from "./parameter-specs.js";

/** The parameters of one model in engine memory, by name. */
export class EncoderDecoderParameters implements Weights {
  readonly list: readonly Parameter[];
  private readonly byName: ReadonlyMap<string, Tensor>;
  private readonly arena: Arena;

  /** Allocates them; without sources they are uninitialised. Throws ERR_SWITCHYARD_MEMORY, and as sources do. */
  constructor(
    readonly engine: Engine,
    config: EncoderDecoderConfig,
    sources?: ReadonlyMap<string, ParameterSource>,
  ) {
    this.arena = new Arena(engine);
    try {
      this.list = encoderDecoderSpecs(config).map((spec) => ({ ...spec, tensor: this.arena.alloc(engine.float, spec.shape) }));
      this.byName = new Map(this.list.map(({ name, tensor }) => [name, tensor]));
      for (const { name, tensor } of this.list) sources?.get(name)?.read(engine, tensor);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
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
