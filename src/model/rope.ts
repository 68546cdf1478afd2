import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { check } from "../errors.js";
import { ropeTable } from "../ops/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";

/** A rotary position embedding (Su et al. 2021, arXiv 2104.09864). Plain data. */
export interface RopeConfig {
  /** Base of the wavelengths. */
  theta: number;
}

/** Throws ERR_SWITCHYARD_CONFIG naming the field unless heads of `headDim` can be rotated so. */
export function checkRope({ theta }: RopeConfig, headDim: number): void {
  check(theta > 0, "ERR_SWITCHYARD_CONFIG", () => `model config: ropes: theta must be positive, got ${theta}`);
  check(headDim % 2 === 0, "ERR_SWITCHYARD_CONFIG", () => `model config: headDim must be even for rotary embeddings, got ${headDim}`);
}

/** The tables of cosines and sines of a model's rotary embeddings in engine memory, as long as the sequences so far needed. */
export class RopeTables {
  private readonly tables: { arena: Arena; tensor: Tensor }[] = [];

  constructor(
    private readonly engine: Engine,
    private readonly config: ModelConfig,
  ) {}

  /** Table of rope `i` for at least the first `positions`: [positions or more, headDim]. A longer one takes the place of those before. */
  get(i: number, positions: number): Tensor {
    const known = this.tables[i];
    if (known !== undefined && known.tensor.rows >= positions) return known.tensor;
    known?.arena[Symbol.dispose]();
    const { context, headDim, ropes } = this.config;
    const rows = Math.min(context, Math.max(256, 2 ** Math.ceil(Math.log2(positions))));
    const arena = new Arena(this.engine, 0);
    const tensor = arena.alloc(this.engine.float, [rows, headDim]);
    this.engine.write(tensor, ropeTable(rows, headDim, (ropes[i] as RopeConfig).theta));
    this.tables[i] = { arena, tensor };
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const table of this.tables) table?.arena[Symbol.dispose]();
    this.tables.length = 0;
  }
}
