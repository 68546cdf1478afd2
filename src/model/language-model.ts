import type { Engine } from "../engine/engine.js";
import { loadEngine } from "../engine/load.js";
import { check } from "../errors.js";
import { checkOptions, checkPath, show } from "../options.js";
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
import { type ModelOptions, modelConfig, modelOptions } from "./presets.js";
import { readModel } from "./read.js";
import { type Needs, processRoom, type Room } from "./residency/room.js";
import { RopeTables } from "./rope.js";
import type { TransformerParts } from "./transformer.js";

export interface LoadOptions {
  engine?: Engine | undefined;
  /**
   * Bytes that the process may take: the dense part of the model stays in memory, and of its experts those that there is room for, the others are
   * read when they are needed. The results are the same bits. Default: files are mapped, and the system decides.
   */
  memory?: number | undefined;
  /** Is told how many bytes have been packed, of those that are not multiplied as files have them (MXFP4, 8-bit floats, 16-bit floats [in, out] of safetensors). */
  onProgress?: OnProgress | undefined;
}

export interface CreateOptions {
  /** Default 0. */
  seed?: number | undefined;
  tokenizer?: Tokenizer | undefined;
  engine?: Engine | undefined;
}

function checkEngine(call: string, engine: Engine): void {
  check(typeof engine === "object" && "float" in engine, "ERR_SWITCHYARD_USAGE", () => `${call}: engine: expected what loadEngine returns, got ${show(engine)}; for the reference engine give loadEngine({ engine: "reference" })`);
}

/** Throws ERR_SWITCHYARD_USAGE for what is no language model. */
export function checkLanguageModel(call: string, model: LanguageModel): void {
  check(model instanceof LanguageModel, "ERR_SWITCHYARD_USAGE", () => `${call}: expected a model, as Model.create and Model.load give it, got ${typeof model}`);
}

/** This class, or one that extends it. */
type ModelClass<M> = new (engine: Engine, config: ModelConfig, tokenizer: Tokenizer | undefined, sources?: ReadonlyMap<string, ParameterSource>, roomFor?: (needs: Needs) => Room, onProgress?: OnProgress) => M;

/** A decoder-only transformer in engine memory, with its tokenizer: what `train` trains and `generate` runs. */
export class LanguageModel implements TransformerParts {
  readonly parameters: Parameters;
  readonly ropes: RopeTables;
  private ownRouter: Router | undefined;

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
  static create<M extends LanguageModel>(this: ModelClass<M>, options: (ModelOptions | { config: ModelConfig }) & CreateOptions): M {
    const all = options as ModelOptions & { config?: ModelConfig | undefined } & CreateOptions;
    checkOptions("create", all, { ...modelOptions, config: true, seed: true, tokenizer: true, engine: true });
    const { config: given, seed = 0, tokenizer, engine = loadEngine(), ...shape } = all;
    checkEngine("create", engine);
    const config = given ?? modelConfig(shape);
    check(tokenizer === undefined || tokenizer.vocabSize <= config.vocab, "ERR_SWITCHYARD_CONFIG", () => `create: the tokenizer has ${tokenizer?.vocabSize} tokens, and the model a vocabulary of ${config.vocab}; give \`vocab: tokenizer.vocabSize\``);
    const model = new this(engine, config, tokenizer);
    initialise(model.parameters, checkSeed(seed));
    return model;
  }

  /**
   * A model folder in the Hugging Face layout, or a GGUF file (of a split one, the first). Its weights are read where they lie in its files,
   * which must stay as they are while the model lives, and copied when they are to be trained. Throws ERR_SWITCHYARD_CHECKPOINT,
   * ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_UNSUPPORTED naming file and field, ERR_SWITCHYARD_MEMORY for a budget that is too small.
   */
  static async load<M extends LanguageModel>(this: ModelClass<M>, path: string, options: LoadOptions = {}): Promise<M> {
    checkPath("load", path);
    checkOptions("load", options, { engine: true, memory: true, onProgress: true });
    const { engine = loadEngine(), memory, onProgress } = options;
    checkEngine("load", engine);
    const { config, sources, tokenizer } = asLanguageModel(await readModel(path), path);
    return new this(engine, config, tokenizer, sources, memory === undefined ? undefined : (needs) => processRoom(memory, needs), onProgress);
  }

  /** A user's own router (`defineRouter`), used by every sparse layer instead of the configured one. Not saved. */
  get router(): Router | undefined {
    return this.ownRouter;
  }

  /** Throws ERR_SWITCHYARD_USAGE for what is no function, and for a dense model. */
  set router(router: Router | undefined) {
    check(router === undefined || typeof router === "function", "ERR_SWITCHYARD_USAGE", () => `router: expected what defineRouter returns, got ${show(router)}; a preset or a config is given to Model.create, as \`moe: { router }\``);
    check(router === undefined || this.config.moe !== undefined, "ERR_SWITCHYARD_USAGE", () => "router: the model is dense, so it has nothing to route");
    this.ownRouter = router;
    this.parameters.version++;
  }

  /** Writes the folder in one step: it is there whole or not at all. */
  async save(folder: string): Promise<void> {
    checkPath("save", folder);
    await writeModelFolder(folder, this.config, this.parameters, this.tokenizer);
  }

  /** Type of the keys and values that generation keeps, unless told otherwise: f16 beside quantised weights, which are coarser. */
  get kv(): KvType {
    return this.parameters.operands === "int8" ? "f16" : "f32";
  }

  /** Parameters in all, and those that work on one token. */
  get parameterCount(): { total: number; active: number } {
    return countParameters(this.config);
  }

  [Symbol.dispose](): void {
    this.parameters[Symbol.dispose]();
    this.ropes[Symbol.dispose]();
  }
}
