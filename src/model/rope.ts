import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { checker } from "../errors.js";
import { type Tensor, view } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";

/** A rotary position embedding (Su et al. 2021, arXiv 2104.09864). Plain data. */
export interface RopeConfig {
  /** Base of the wavelengths. */
  theta: number;
  /** Elements of a head that are rotated; with latent attention the last ones, otherwise the first. */
  rotary: number;
  /** Element 2i turns with element 2i + 1; otherwise with element i + rotary / 2 the element i. */
  interleaved: boolean;
  scaling?: RopeScaling | undefined;
  /** Takes the place of `scaling` in sequences of more than `beyond` tokens, for all their positions. */
  long?: (RopeScaling & { beyond: number }) | undefined;
}

export interface RopeScaling {
  /** Each of the rotary / 2 frequencies is divided by its factor. */
  factors: readonly number[];
  /** Multiplies cosines and sines. */
  magnitude: number;
}

/** Throws ERR_SWITCHYARD_CONFIG naming the field unless heads of `headDim` can be rotated so. */
export function checkRope({ theta, rotary, scaling, long }: RopeConfig, headDim: number): void {
  const require = checker("ERR_SWITCHYARD_CONFIG", "model config: ropes");
  require(theta > 0, () => `theta must be positive, got ${theta}`);
  require(Number.isInteger(rotary) && rotary > 0 && rotary % 2 === 0 && rotary <= headDim, () => `rotary must be an even number up to headDim (${headDim}), got ${rotary}`);
  for (const s of [scaling, long]) {
    require(s === undefined || (s.factors.length === rotary / 2 && s.factors.every((f) => f > 0) && Number.isFinite(s.magnitude)), () => `scaling: expected ${rotary / 2} positive factors and a magnitude, got ${s?.factors.length} and ${s?.magnitude}`);
  }
}

/** Radians per position of each of the rotary / 2 pairs. */
export const frequencies = (theta: number, rotary: number): number[] => Array.from({ length: rotary / 2 }, (_, i) => theta ** ((-2 * i) / rotary));

/** Cosines of the angles of `positions` positions, then their sines, in f64: [positions, rotary]. */
export function rotaryTable({ theta, rotary, scaling }: RopeConfig, positions: number): Float64Array {
  const half = rotary / 2;
  const { factors, magnitude } = scaling ?? { factors: [], magnitude: 1 };
  const scaled = frequencies(theta, rotary).map((f, i) => f / (factors[i] ?? 1));
  const table = new Float64Array(positions * rotary);
  for (let p = 0; p < positions; p++) {
    scaled.forEach((f, i) => {
      table[p * rotary + i] = magnitude * Math.cos(p * f);
      table[p * rotary + half + i] = magnitude * Math.sin(p * f);
    });
  }
  return table;
}

/** A table of a rotary embedding in engine memory: as many rows for short sequences, then, where they differ, as many for long ones. */
interface RopeTable {
  tensor: Tensor;
  /** Rows for each kind of sequence. */
  positions: number;
}

/** The tables of cosines and sines of a model's rotary embeddings, as long as the sequences so far needed. */
export class RopeTables {
  private readonly tables: (RopeTable & { arena: Arena })[] = [];

  constructor(
    private readonly engine: Engine,
    private readonly config: ModelConfig,
  ) {}

  /** Table of rope `i` for at least the first `positions`. A longer one takes the place of those before. */
  get(i: number, positions: number): RopeTable {
    const known = this.tables[i];
    if (known !== undefined && known.positions >= positions) return known;
    const rope = this.config.ropes[i] as RopeConfig;
    const rows = Math.min(this.config.context, Math.max(256, 2 ** Math.ceil(Math.log2(positions))));
    const kinds = rope.long === undefined ? [rope] : [rope, { ...rope, scaling: rope.long }];
    const arena = new Arena(this.engine, 0);
    const tensor = arena.alloc(this.engine.float, [kinds.length * rows, rope.rotary]);
    kinds.forEach((kind, n) => this.engine.write(view(tensor, [rows, rope.rotary], n * rows * rope.rotary), rotaryTable(kind, rows)));
    const table = { arena, tensor, positions: rows };
    known?.arena[Symbol.dispose]();
    this.tables[i] = table;
    return table;
  }

  [Symbol.dispose](): void {
    for (const table of this.tables) table?.arena[Symbol.dispose]();
    this.tables.length = 0;
  }
}
