import { Arena } from "../../engine/arena.js";
import type { Engine } from "../../engine/engine.js";
import { check } from "../../errors.js";
import { type Tensor, view } from "../../tensor/tensor.js";
import type { EncoderDecoderConfig } from "./config.js";

/** Keys and values of one layer, [rows, heads * headDim] each. */
interface KeyValues {
  k: Tensor;
  v: Tensor;
}

export interface DecoderLayerState {
  /** Of the decoder's tokens so far, with room for `capacity`. */
  own: KeyValues;
  /** Of the encoded source. */
  source: KeyValues;
  /** [E]: rows that each expert has been given. */
  used_E: Int32Array;
}

/** What a decoder keeps of one sequence: the source it reads and its own tokens so far. */
export class DecoderCache {
  /** Decoder tokens held. */
  length = 0;
  readonly layers: readonly DecoderLayerState[];
  private readonly arena: Arena;

  constructor(
    private readonly engine: Engine,
    config: EncoderDecoderConfig,
    readonly sourceLength: number,
    readonly capacity: number,
  ) {
    const width = config.heads * config.headDim;
    this.arena = new Arena(engine, 2 ** 24);
    const pair = (rows: number): KeyValues => ({ k: this.arena.alloc(engine.float, [rows, width]), v: this.arena.alloc(engine.float, [rows, width]) });
    this.layers = Array.from({ length: config.decoder.layers }, () => ({ own: pair(capacity), source: pair(sourceLength), used_E: new Int32Array(config.moe.experts) }));
  }

  /** Makes sure that `tokens` more have room. Throws ERR_SWITCHYARD_USAGE. */
  reserve(tokens: number): void {
    check(this.length + tokens <= this.capacity, "ERR_SWITCHYARD_USAGE", () => `decode: ${this.length} + ${tokens} tokens do not fit in a cache of ${this.capacity}; make it larger`);
  }

  /** Keeps keys and values of the next tokens of layer `l`; `length` grows once all layers have done so. */
  append(l: number, k: Tensor, v: Tensor): KeyValues {
    const { own } = this.layers[l] as DecoderLayerState;
    this.engine.copy(view(own.k, k.shape, this.length * k.cols), k);
    this.engine.copy(view(own.v, v.shape, this.length * v.cols), v);
    return own;
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}
