import { Arena } from "../../engine/arena.js";
import type { Demand } from "../../engine/native-products.js";
import type { NativeEngine } from "../../engine/native.js";
import type { ExpertParameters } from "../../moe/experts.js";
import { byteLength } from "../../tensor/dtype.js";
import { type LateTensor, type Tensor, view } from "../../tensor/tensor.js";
import type { StoredMatrix } from "../mapped.js";
import type { StoredExperts } from "./stored-experts.js";

/**
 * The experts of all layers as products take them, whether they are in memory or not: where each is stands in engine memory, and is looked up when
 * products run. So ops need not wait for JavaScript as long as all experts that they come to are there.
 */
export class LateExperts {
  readonly layers: readonly { experts: ExpertParameters; demand: Pick<Demand, "there" | "rows"> }[];
  private readonly arena: Arena;
  /** i32 [L * E]: see `Demand`. */
  private readonly rows: Tensor;

  constructor(
    private readonly engine: NativeEngine,
    stored: readonly StoredExperts[],
  ) {
    const experts = stored[0]?.down.length ?? 0;
    const parts = Math.max(...stored.map(({ up }) => up.length + 1));
    const cells = stored.length * parts * experts;
    this.arena = new Arena(engine, byteLength("f64", 2 * cells));
    const addresses = this.arena.alloc("f64", [cells]);
    this.rows = this.arena.alloc("i32", [stored.length * experts]);
    engine.fill(addresses, 0);
    engine.fill(this.rows, 0);
    const late = (matrices: readonly StoredMatrix[], first: number) => engine.lateMatrices(addresses, first, matrices.map(({ dtype, rows, cols }) => ({ dtype, shape: [rows, cols] })));
    this.layers = stored.map(({ up, down }, l) => {
      const first = l * parts * experts;
      const [one, two] = up.map((part, i) => late(part, first + i * experts));
      return {
        experts: { up: one as LateTensor[], beside: two, down: late(down, first + up.length * experts) },
        demand: { there: view(addresses, [experts], first), rows: view(this.rows, [experts], l * experts) },
      };
    });
  }

  /** Says where the matrices of an expert are, or are being read to, those of `up` first; or that they are nowhere. */
  place(layer: number, e: number, matrices?: readonly Tensor[], coming = false): void {
    const { up, beside, down } = (this.layers[layer] as (typeof this.layers)[number]).experts as Record<"up" | "beside" | "down", LateTensor[] | undefined>;
    [up, beside, down].filter((part) => part !== undefined).forEach((part, i) => this.engine.place(part[e] as LateTensor, matrices?.[i], coming));
  }

  /** Lets ops stop at a layer even if all that it needs is there. */
  stopAt(layer: number): void {
    this.engine.fill(view(this.rows, [1], layer * (this.rows.size / this.layers.length)), -1);
  }

  /** How many rows each expert of a layer, or of all, had where ops have come to it; 0 from then on. */
  takeRows(layer?: number): Int32Array {
    const taken = layer === undefined ? this.rows : (this.layers[layer] as (typeof this.layers)[number]).demand.rows;
    const rows = this.engine.read(taken) as Int32Array;
    this.engine.fill(taken, 0);
    return rows;
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}
