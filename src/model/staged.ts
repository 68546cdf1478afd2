import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { check } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import type { AnyConfig } from "./encoder-decoder/config.js";
import { copyMapped, mapWeight, type ParameterSource } from "./mapped.js";
import { MappedFiles } from "./mapped-files.js";
import { parameterSpecs } from "./parameter-specs.js";

/** Where writers get parameters from, as floats: `Parameters`, or files. */
export interface Weights {
  readonly engine: Engine;
  get(name: string): Tensor;
  /** Says that a parameter is not asked for any more. */
  release?(name: string): void;
}

/**
 * The parameters of a model in files, each in memory as long as tensors that it is a part of are written: so that writing a model takes the
 * memory of its largest layer.
 */
export class StagedWeights implements Weights {
  private readonly staged = new Map<string, { arena: Arena; tensor: Tensor }>();
  private readonly shapes: ReadonlyMap<string, readonly number[]>;

  constructor(
    readonly engine: Engine,
    config: AnyConfig,
    private readonly sources: ReadonlyMap<string, ParameterSource>,
  ) {
    this.shapes = new Map(parameterSpecs(config).map(({ name, shape }) => [name, shape]));
  }

  /** Throws ERR_SWITCHYARD_MEMORY, ERR_SWITCHYARD_IO. */
  get(name: string): Tensor {
    const known = this.staged.get(name);
    if (known !== undefined) return known.tensor;
    const [shape, source] = [this.shapes.get(name), this.sources.get(name)];
    check(shape !== undefined && source !== undefined, "ERR_SWITCHYARD_CONFIG", () => `parameters: the model has no "${name}"`);
    const arena = new Arena(this.engine, 0);
    const tensor = arena.alloc(this.engine.float, shape);
    this.staged.set(name, { arena, tensor });
    this.read(source, tensor, arena);
    return tensor;
  }

  /** Matrices that products read where files have them are widened by the native engine, on all threads. */
  private read({ rows, read }: ParameterSource, tensor: Tensor, arena: Arena): void {
    const { engine } = this;
    using files = new MappedFiles(engine);
    const inPlace = engine.name === "native" && tensor.shape.length > 1 ? rows : undefined;
    const parts = inPlace && mapWeight(files, arena, engine, tensor.shape, inPlace);
    if (parts === undefined) read(engine, tensor);
    else copyMapped(engine, tensor, parts);
  }

  release(name: string): void {
    this.staged.get(name)?.arena[Symbol.dispose]();
    this.staged.delete(name);
  }

  [Symbol.dispose](): void {
    for (const name of this.staged.keys()) this.release(name);
  }
}
