import { Arena } from "../engine/arena.js";
import type { Engine, ExpertMatrices, Precision } from "../engine/engine.js";
import { checkFits } from "../engine/limit.js";
import type { NativeEngine } from "../engine/native.js";
import { check } from "../errors.js";
import { byteLength, isQuantised } from "../tensor/dtype.js";
import { sizeOf, type Tensor, view } from "../tensor/tensor.js";
import { type AnyConfig, isEncoderDecoder } from "./encoder-decoder/config.js";
import type { Columns } from "./families/names.js";
import type { ParameterSource } from "./mapped.js";
import { type Parameter, type ParameterSpec, parameterSpecs } from "./parameter-specs.js";
import { ExpertCache } from "./residency/expert-cache.js";
import { repackingBytes } from "./residency/repacker.js";
import type { Needs, Room } from "./residency/room.js";
import { cachedBytes, expertBytes, storedExperts } from "./residency/stored-experts.js";
import { StoredWeights } from "./stored-weights.js";

/** Is told how many bytes are done, of how many in all. */
export type OnProgress = (done: number, total: number) => void;

function progress(parts: readonly number[], onProgress: OnProgress): (bytes: number) => void {
  const total = parts.reduce((sum, bytes) => sum + bytes, 0);
  let done = 0;
  return (bytes) => onProgress((done += bytes), total);
}

/** Of a parameter that is left uninitialised. */
const unread: ParameterSource = { read: () => undefined };

/** The parameters of one model in engine memory, by name, or where its files have them. */
export class Parameters {
  /** `tensor`: as `get` gives it. */
  readonly list: readonly Parameter[];
  private readonly specs: ReadonlyMap<string, ParameterSpec>;
  private readonly tensors = new Map<string, Tensor>();
  private readonly stored: StoredWeights;
  private readonly arena: Arena;
  private disposed = false;
  /** Is another number once the weights have changed: what was computed from them before holds no longer. */
  version = 0;
  /** The experts, where they are not all in memory at a time. */
  readonly cache: ExpertCache | undefined;
  /** Bytes in files of the parameters that `cache` has the matrices of. */
  private readonly cached: ReadonlyMap<string, number> = new Map();

  /**
   * Without sources all of them are allocated, uninitialised. With sources the native engine takes matrices where their files have them, so
   * that opening a large model costs nothing; the rest is read. With `roomFor` the experts stay in their files and a cache of them has as many as
   * it says. `onProgress` is told of weights that are repacked for products. Throws ERR_SWITCHYARD_MEMORY, ERR_SWITCHYARD_IO, ERR_SWITCHYARD_UNSUPPORTED.
   */
  constructor(
    readonly engine: Engine,
    config: AnyConfig,
    sources?: ReadonlyMap<string, ParameterSource>,
    roomFor?: (needs: Needs) => Room,
    onProgress?: OnProgress,
  ) {
    this.arena = new Arena(engine);
    this.stored = new StoredWeights(engine);
    const specs = parameterSpecs(config);
    this.specs = new Map(specs.map((spec) => [spec.name, spec]));
    if (sources === undefined) checkFits(byteLength(engine.float, specs.reduce((sum, { shape }) => sum + sizeOf(shape), 0)), "parameters: the model takes", "make it smaller");
    const tensor = (name: string) => this.get(name);
    this.list = specs.map((spec) => ({
      ...spec,
      get tensor() {
        return tensor(spec.name);
      },
    }));
    try {
      const layers = roomFor === undefined || isEncoderDecoder(config) ? [] : storedExperts(engine, config, this.specs, sources);
      this.cached = cachedBytes(layers);
      const resident = specs.filter(({ name }) => !this.cached.has(name));
      const onBytes = onProgress && progress(resident.map((spec) => this.stored.repackedBytes(spec, sources?.get(spec.name) ?? unread)), onProgress);
      for (const spec of resident) {
        const source = sources?.get(spec.name) ?? unread;
        if (!this.stored.take(spec, source, onBytes)) source.read(engine, this.get(spec.name));
      }
      const matrices = layers.flatMap(({ up, down }) => [...up, down].flat());
      if (roomFor !== undefined) this.cache = new ExpertCache(engine as NativeEngine, layers, roomFor({ dense: this.readDense(specs) + repackingBytes(matrices), slot: expertBytes(layers), experts: config.moe?.experts ?? 0 }));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes of all parameters but those of the cache; asks the system to read those that are mapped. */
  private readDense(specs: readonly ParameterSpec[]): number {
    for (const tensor of this.stored.tensors) this.engine.advise(tensor, true);
    return specs.reduce((sum, { name }) => sum + (this.cached.has(name) ? 0 : this.bytes(name)), 0);
  }

  /** A parameter as one float tensor of its own; made from what is mapped when it is first asked for. */
  get(name: string): Tensor {
    this.checkAlive();
    const known = this.tensors.get(name);
    if (known !== undefined) return known;
    const spec = this.specs.get(name);
    check(spec !== undefined, "ERR_SWITCHYARD_CONFIG", () => `parameters: the model has no "${name}"`);
    check(!this.cached.has(name), "ERR_SWITCHYARD_USAGE", () => `parameters: "${name}" is never whole in memory under a memory budget; load the model without one to train or save it`);
    const tensor = this.arena.alloc(this.engine.float, spec.shape);
    this.stored.copy(name, tensor);
    this.tensors.set(name, tensor);
    return tensor;
  }

  find(name: string): Tensor | undefined {
    return this.specs.has(name) ? this.get(name) : undefined;
  }

  /** A matrix for `linear` and `gatherRows`: in the file if it can be read there, its columns in the order that `columns` says. */
  weight(name: string): Tensor | readonly Tensor[] {
    const parts = this.experts(name) as readonly Tensor[];
    return parts.length === 1 ? (parts[0] as Tensor) : parts;
  }

  /** The order of the columns of `weight(name)`, where it is not the parameter's. */
  columns(name: string): Columns | undefined {
    return this.tensors.has(name) ? undefined : this.stored.columns(name);
  }

  /** The stacks of matrices that the file has a parameter in, if products take those apart and no floats have been made of it. */
  apart(name: string): readonly (readonly Tensor[])[] | undefined {
    this.checkAlive();
    return this.tensors.has(name) ? undefined : this.stored.apart(name);
  }

  findWeight(name: string): Tensor | readonly Tensor[] | undefined {
    return this.specs.has(name) ? this.weight(name) : undefined;
  }

  /** `count` rows of a matrix from `first` on, or elements of a vector: in the file if they can be read there. They carry no gradient. */
  rows(name: string, first: number, count: number): Tensor {
    const parts = this.experts(name) as readonly Tensor[];
    const whole = parts.length === 1 ? (parts[0] as Tensor) : this.get(name);
    const inner = whole.shape.slice(1);
    return view(whole, [count, ...inner], first * sizeOf(inner));
  }

  /** A matrix, or a stack of matrices for grouped products: as it is, or as its parts, such as gate and up, in the file; none of what `cache` keeps. */
  experts(name: string): readonly ExpertMatrices[] {
    this.checkAlive();
    if (this.cached.has(name)) return [];
    const own = this.tensors.get(name);
    return own === undefined ? (this.stored.get(name) ?? [this.get(name)]) : [own];
  }

  /** The same look-ups of names that begin with `prefix`, by what follows it. */
  below(prefix: string): Pick<Parameters, "get" | "find" | "weight" | "columns" | "findWeight" | "rows" | "experts"> {
    return {
      get: (name) => this.get(prefix + name),
      find: (name) => this.find(prefix + name),
      weight: (name) => this.weight(prefix + name),
      columns: (name) => this.columns(prefix + name),
      findWeight: (name) => this.findWeight(prefix + name),
      rows: (name, first, count) => this.rows(prefix + name, first, count),
      experts: (name) => this.experts(prefix + name),
    };
  }

  /** The narrowest numbers that products multiply; rows of activations are rounded to them too, to int8 for quantised weights. */
  get operands(): "int8" | Precision {
    const cached = this.cache?.layers.flatMap(({ up, down }) => [...up, down].flat()) ?? [];
    const types = [...this.stored.tensors, ...cached].map(({ dtype }) => dtype);
    return types.some(isQuantised) ? "int8" : types.includes("bf16") ? "bf16" : "f32";
  }

  /** Bytes of a parameter as products read it. */
  bytes(name: string): number {
    return this.cached.get(name) ?? this.experts(name).flat().reduce((sum, part) => sum + part.bytes, 0);
  }

  /** Gives every trainable parameter a gradient. */
  requireGradients(): void {
    for (const { tensor, trainable } of this.list) {
      if (!trainable || tensor.grad !== undefined) continue;
      tensor.requiresGrad = true;
      tensor.grad = this.arena.alloc(tensor.dtype, tensor.shape);
      if (tensor.shape.length === 3) tensor.gradSquares = { sum: this.arena.alloc("f64", [1]), known: false };
    }
  }

  /** What others have in the memory by now is not taken for weights. */
  private checkAlive(): void {
    check(!this.disposed, "ERR_SWITCHYARD_USAGE", () => "parameters: the model was disposed of; load it again, or dispose of it later");
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.cache?.[Symbol.dispose]();
    this.arena[Symbol.dispose]();
    this.stored[Symbol.dispose]();
  }
}
