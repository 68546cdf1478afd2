import type { Engine } from "../engine/engine.js";
import { loadEngine } from "../engine/load.js";
import type { Router } from "../routing/types.js";
import { checkSeed } from "../tensor/random.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { asLanguageModel } from "./any-model.js";
import type { KvType } from "./cache.js";
import { writeModelFolder } from "./folder.js";
import { checkModelConfig, type ModelConfig } from "./config.js";
import type { ParameterSource } from "./mapped.js";
import { countParameters, initialise } from "./parameter-specs.js";
import { type OnProgress, Parameters } from "./parameters.js";
import { type ModelOptions, modelConfig } from "./presets.js";
import { readModel } from "./read.js";
import { type Needs, processRoom, type Room } from "./residency/room.js";
import { RopeTables } from "./rope.js";
import type { TransformerParts } from "./transformer.js";

interface LoadOptions {
  engine?: Engine | undefined;
  /**
   * Bytes that the process may take: the dense part of the model stays in memory, and of its experts those that there is room for, the others are
   * read when they are needed. The results are the same bits. Default: files are mapped, and the system decides.
   */
  memory?: number | undefined;
  /** Is told how many bytes have been packed, of those that are not multiplied as files have them (MXFP4, 8-bit floats, 16-bit floats [in, out] of safetensors). */
  onProgress?: OnProgress | undefined;
}

/** This class, or one that extends it. */
type ModelClass<M> = new (engine: Engine, config: ModelConfig, tokenizer: Tokenizer | undefined, sources?: ReadonlyMap<string, ParameterSource>, roomFor?: (needs: Needs) => Room, onProgress?: OnProgress) => M;

/** A decoder-only transformer in engine memory, with its tokenizer: what `train` trains and `generate` runs. */
export class LanguageModel implements TransformerParts {
  readonly parameters: Parameters;
  readonly ropes: RopeTables;
  /** A user's own router, used by every sparse layer instead of the configured one. Not saved. */
  router: Router | undefined;

  /** Without `sources` the parameters are uninitialised: `create` fills them. With `roomFor` a cache holds the experts that it has room for. */
  constructor(
    readonly engine: Engine,
    readonly config: ModelConfig,
    public tokenizer: Tokenizer | undefined,
    sources?: ReadonlyMap<string, ParameterSource>,
    roomFor?: (needs: Needs) => Room,
    onProgress?: OnProgress,
  ) {
    checkModelConfig(config);
    this.parameters = new Parameters(engine, config, sources, roomFor, onProgress);
    this.ropes = new RopeTables(engine, config);
  }

  /** A new model with random weights; the same seed, engine and kernel variant give the same bits. */
  static create<M extends LanguageModel>(this: ModelClass<M>, options: (ModelOptions | { config: ModelConfig }) & { seed?: number; tokenizer?: Tokenizer; engine?: Engine }): M {
    const config = "config" in options ? options.config : modelConfig(options);
    const seed = checkSeed(options.seed ?? 0);
    const model = new this(options.engine ?? loadEngine(), config, options.tokenizer);
    initialise(model.parameters, seed);
    return model;
  }

  /**
   * A model folder in the Hugging Face layout, or a GGUF file (of a split one, the first). Its weights are read where they lie in its files,
   * which must stay as they are while the model lives, and copied when they are to be trained. Throws ERR_SWITCHYARD_CHECKPOINT,
   * ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_UNSUPPORTED naming file and field, ERR_SWITCHYARD_MEMORY for a budget that is too small.
   */
  static async load<M extends LanguageModel>(this: ModelClass<M>, path: string, options: LoadOptions = {}): Promise<M> {
    const { config, sources, tokenizer } = asLanguageModel(await readModel(path), path);
    const { engine = loadEngine(), memory, onProgress } = options;
    return new this(engine, config, tokenizer, sources, memory === undefined ? undefined : (needs) => processRoom(memory, needs), onProgress);
  }

  /** Writes the folder in one step: it is there whole or not at all. */
  async save(folder: string): Promise<void> {
    await writeModelFolder(folder, this.config, this.parameters, this.tokenizer);
  }

  /** Type of the keys and values that generation keeps, unless told otherwise: f16 beside quantised weights, which are coarser. */
  get kv(): KvType {
    return this.parameters.operands === "int8" ? "f16" : "f32";
  }

  get parameterCount(): { total: number; active: number } {
    return countParameters(this.config);
  }

  [Symbol.dispose](): void {
    this.parameters[Symbol.dispose]();
    this.ropes[Symbol.dispose]();
  }
}
