import { Tape } from "../../autograd/tape.js";
import { Arena } from "../../engine/arena.js";
import type { Engine } from "../../engine/engine.js";
import { loadEngine } from "../../engine/load.js";
import { check } from "../../errors.js";
import { topK } from "../../ops/index.js";
import { checkOptions, checkPath } from "../../options.js";
import type { Routing } from "../../routing/types.js";
import { checkSeed } from "../../tensor/random.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { asEncoderDecoder } from "../any-model.js";
import { writeModelFolder } from "../folder.js";
import type { ParameterSource } from "../mapped.js";
import { initialise } from "../parameter-specs.js";
import { Parameters } from "../parameters.js";
import { readModel } from "../read.js";
import { DecoderCache } from "./cache.js";
import { checkEncoderDecoderConfig, type EncoderDecoderConfig } from "./config.js";
import { decode, encode, type EncoderDecoderParts, readSources, vocabularyLogits } from "./stacks.js";

interface EncoderDecoderOutput {
  /** [batch * target length, V] */
  logits: Tensor;
  /** One decision per sparse layer, in order. */
  encoder: Routing[];
  decoder: Routing[];
}

/** An encoder-decoder transformer in engine memory, for inference: Switch Transformers (Fedus et al. 2021). */
export class EncoderDecoderModel implements EncoderDecoderParts {
  readonly parameters: Parameters;

  /** Without `sources` the parameters are uninitialised: `create` fills them. */
  constructor(
    readonly engine: Engine,
    readonly config: EncoderDecoderConfig,
    public tokenizer: Tokenizer | undefined,
    sources?: ReadonlyMap<string, ParameterSource>,
  ) {
    checkEncoderDecoderConfig(config);
    this.parameters = new Parameters(engine, config, sources);
  }

  /** A new model with random weights. */
  static create({ config, seed = 0, engine = loadEngine() }: { config: EncoderDecoderConfig; seed?: number; engine?: Engine }): EncoderDecoderModel {
    checkSeed(seed);
    const model = new EncoderDecoderModel(engine, config, undefined);
    initialise(model.parameters, seed);
    return model;
  }

  /** A model folder in the Hugging Face layout or a GGUF file, which must stay as it is while the model lives; feed-forward layers and experts are read in it, other weights become floats in memory, whatever they are. Throws ERR_SWITCHYARD_CHECKPOINT, ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_UNSUPPORTED naming file and field. */
  static async load(path: string, options: { engine?: Engine | undefined } = {}): Promise<EncoderDecoderModel> {
    checkPath("load", path);
    checkOptions("load", options, { engine: true });
    const { config, sources, tokenizer } = asEncoderDecoder(await readModel(path), path);
    return new EncoderDecoderModel(options.engine ?? loadEngine(), config, tokenizer, sources);
  }

  /** Writes the folder in one step: it is there whole or not at all. */
  async save(folder: string): Promise<void> {
    await writeModelFolder(folder, this.config, this.parameters, this.tokenizer);
  }

  /** Logits of whole target sequences given their sources: i32 [batch * source length] and i32 [batch * target length]. */
  forward(tape: Tape, sourceIds: Tensor, targetIds: Tensor, batch: number): EncoderDecoderOutput {
    const source = encode(tape, this, sourceIds, batch);
    const caches: DecoderCache[] = [];
    try {
      for (let i = 0; i < batch; i++) caches.push(new DecoderCache(this.engine, this.config, sourceIds.size / batch, targetIds.size / batch));
      readSources(tape, this, source.hidden, caches);
      const target = decode(tape, this, targetIds, caches);
      return { logits: vocabularyLogits(tape, this, target.hidden), encoder: source.routings, decoder: target.routings };
    } finally {
      for (const cache of caches) cache[Symbol.dispose]();
    }
  }

  /** The most probable continuation, token by token, up to `maxTokens` or an end token, which is not given out. Text goes through the model's tokenizer. */
  *generate(source: string | readonly number[], { maxTokens }: { maxTokens: number }): Generator<number, void> {
    check(Number.isInteger(maxTokens) && maxTokens >= 1, "ERR_SWITCHYARD_USAGE", () => `generate: maxTokens: expected an integer of at least 1, got ${maxTokens}`);
    const ids = typeof source === "string" ? this.tokenizer?.encode(source) : source;
    check(ids !== undefined, "ERR_SWITCHYARD_USAGE", () => "generate: the model has no tokenizer; give token ids instead of text");
    check(ids.every((id) => Number.isInteger(id) && id >= 0 && id < this.config.vocab), "ERR_SWITCHYARD_USAGE", () => `generate: expected token ids below ${this.config.vocab}`);
    using arena = new Arena(this.engine);
    using cache = new DecoderCache(this.engine, this.config, ids.length, maxTokens);
    const tapeOf = () => {
      arena.reset();
      return new Tape(this.engine, arena);
    };
    const encoding = tapeOf();
    readSources(encoding, this, encode(encoding, this, encoding.constant([ids.length], ids, "i32"), 1).hidden, [cache]);
    let last = this.config.startId;
    for (let n = 0; n < maxTokens; n++) {
      const tape = tapeOf();
      const { hidden } = decode(tape, this, tape.constant([1], [last], "i32"), [cache]);
      last = this.engine.read(topK(tape, vocabularyLogits(tape, this, hidden), 1))[0] as number;
      if (this.config.endIds.includes(last)) return;
      yield last;
    }
  }

  [Symbol.dispose](): void {
    this.parameters[Symbol.dispose]();
  }
}
