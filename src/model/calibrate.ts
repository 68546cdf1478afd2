import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import type { Engine, ExpertMatrices } from "../engine/engine.js";
import { check, checkAborted } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ModelConfig } from "./config.js";
import { type Columns, ourColumn } from "./families/names.js";
import { headMatrices } from "./latent-attention.js";
import { LanguageModel } from "./language-model.js";
import type { ParameterSource } from "./mapped.js";
import { parameterSpecs } from "./parameter-specs.js";
import type { Parameters } from "./parameters.js";
import type { Importance } from "./published.js";
import { forward } from "./transformer.js";

/** Token sequences of one length, one after another. */
export interface Window {
  inputs: Int32Array;
  batch: number;
}

interface CalibrationOptions {
  /** Reading goes on until every expert has seen so many tokens. */
  expertTokens: number;
  /** Tokens that are read in any case, if there are so many. */
  usual: number;
  signal?: AbortSignal | undefined;
}

export interface Calibration {
  importance: Importance;
  /** Tokens read. */
  tokens: number;
  /** Tokens that each expert saw, by sparse layer. */
  experts: { layer: number; tokens: number[] }[];
}

/** In each expert's importance its layer's average counts as so many tokens: it is all that an expert without tokens has, and hardly matters to one with thousands. */
const averageTokens = 16;

/**
 * Runs text through a model and takes the root mean square of what every weight is multiplied with, column by column; of experts, over the tokens routed to each.
 * Throws ERR_SWITCHYARD_DATA for activations that are not finite, ERR_SWITCHYARD_ABORTED.
 */
export async function calibrate(engine: Engine, config: ModelConfig, sources: ReadonlyMap<string, ParameterSource>, windows: Iterable<Window>, options: CalibrationOptions): Promise<Calibration> {
  const { expertTokens, usual, signal } = options;
  using observed = new ObservedProducts(engine);
  using model = new LanguageModel(observed.engine, config, undefined, sources);
  using arena = new Arena(engine);
  let tokens = 0;
  for (const { inputs, batch } of windows) {
    // Lets a Ctrl-C through.
    await new Promise(setImmediate);
    checkAborted(signal, "calibrate");
    arena.reset();
    observed.learnWeights(config, model.parameters);
    const tape = new Tape(observed.engine, arena);
    const { hidden } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch });
    observed.note(hidden, model.parameters.experts(config.tiedEmbeddings ? "embedding" : "head")[0] as ExpertMatrices);
    tokens += inputs.length;
    if (tokens >= usual && observed.fewest() >= expertTokens) break;
  }
  const experts = config.sparseLayers.map((layer) => ({ layer, tokens: observed.sums.get(`layers.${layer}.experts.up`)?.rows ?? [] }));
  return { importance: observed.importance(), tokens, experts };
}

/** What a weight was multiplied with, of experts for each: the sums of the squares of its columns, and how many rows it had. */
interface Sums {
  squares: Float64Array[];
  rows: number[];
}

/** An engine that computes what another computes, and takes note of the operands of products with weights. */
class ObservedProducts {
  readonly sums = new Map<string, Sums>();
  readonly engine: Engine;
  /** `together`: what its matrices are multiplied with counts for all of them. */
  private readonly weights = new Map<string, { first: Tensor; columns: Columns | undefined; together: boolean | undefined }>();
  private readonly arena: Arena;

  constructor(private readonly plain: Engine) {
    this.arena = new Arena(plain);
    const matmul: Engine["matmul"] = (form, out, a, b, options) => {
      plain.matmul(form, out, a, b, options);
      if (form === "nt") this.note(a, b);
    };
    const matmuls: Engine["matmuls"] = (outs, x, bs, options) => {
      plain.matmuls(outs, x, bs, options);
      for (const b of bs) this.note(x, b);
    };
    const groupedMatmul: Engine["groupedMatmul"] = (form, out, a, b, offsets, options) => {
      plain.groupedMatmul(form, out, a, b, offsets, options);
      if (form === "nt") this.note(a, b, offsets, options?.rowsA);
    };
    // What is noted is read at once, so that no op can wait.
    const together: Engine["together"] = (compute) => compute();
    this.engine = Object.create(plain, { matmul: { value: matmul }, matmuls: { value: matmuls }, groupedMatmul: { value: groupedMatmul }, together: { value: together } }) as Engine;
  }

  /** Notes where every weight begins, by which products recognise it. To be repeated: weights that a mixer wants as floats are only made when it first runs. */
  learnWeights(config: ModelConfig, parameters: Parameters): void {
    for (const { name, shape, apart } of parameterSpecs(config)) {
      if (shape.length === 1) continue;
      // Parts of a weight, such as gate and up, are all multiplied with the same rows, so that the first one is enough.
      const heads = apart && headMatrices(config, parameters, name).values;
      this.weights.set(name, { first: firstOf(heads ?? (parameters.experts(name)[0] as ExpertMatrices)), columns: parameters.columns(name), together: apart });
    }
  }

  /** Adds the rows of x, in groups if there are offsets, to what `weight` is multiplied with. */
  note(x: Tensor, weight: ExpertMatrices, groupsOfRows?: Tensor, rows?: Tensor): void {
    const factor = [...this.weights].find(([, { first }]) => beginTogether(first, firstOf(weight)));
    if (factor === undefined) return;
    const [name, { columns, together }] = factor;
    const offsets = together ? undefined : groupsOfRows;
    const { plain, arena } = this;
    const groups = offsets === undefined ? 1 : offsets.size - 1;
    const cols = x.cols;
    let known = this.sums.get(name);
    if (known === undefined) this.sums.set(name, (known = { squares: Array.from({ length: groups }, () => new Float64Array(cols)), rows: Array<number>(groups).fill(0) }));
    arena.reset();
    const squares = arena.alloc(x.dtype, [x.rows, cols]);
    plain.unary("square", squares, x);
    const sums = arena.alloc(x.dtype, [groups, 1, cols]);
    const ends = offsets === undefined ? [0, x.rows] : plain.read(offsets);
    if (offsets === undefined) plain.sum(sums, squares, "columns");
    else {
      const ones = arena.alloc(x.dtype, [rows?.size ?? x.rows, 1]);
      plain.fill(ones, 1);
      plain.groupedMatmul("tn", sums, ones, squares, offsets, { rowsB: rows });
    }
    const read = plain.read(sums);
    for (let g = 0; g < groups; g++) {
      const [total, first] = [known.squares[g] as Float64Array, g * cols];
      for (let c = 0; c < cols; c++) {
        const ours = ourColumn(columns, c);
        total[ours] = (total[ours] as number) + (read[first + c] as number);
      }
      known.rows[g] = (known.rows[g] as number) + (ends[g + 1] as number) - (ends[g] as number);
    }
  }

  /** Tokens of the expert that has seen the fewest. */
  fewest(): number {
    return [...this.sums].reduce((least, [name, { rows }]) => (name.endsWith(".experts.up") ? Math.min(least, ...rows) : least), Infinity);
  }

  /** Throws ERR_SWITCHYARD_DATA. */
  importance(): Importance {
    return new Map([...this.sums].map(([name, { squares, rows }]) => [name, means(name, squares, rows)]));
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}

/**
 * Root mean squares of each expert, the squares drawn towards those of all. The mean square itself is what an error costs if columns are independent
 * and rare large activations matter as much as their squares; they do not, and the root gives the lower KL divergence (lab notebook).
 */
function means(name: string, squares: readonly Float64Array[], rows: readonly number[]): Float32Array[] {
  const all = rows.reduce((sum, n) => sum + n, 0);
  const average = (squares[0] as Float64Array).map((_, c) => squares.reduce((sum, vector) => sum + (vector[c] as number), 0) / Math.max(1, all));
  check(average.every(Number.isFinite), "ERR_SWITCHYARD_DATA", () => `calibrate: what "${name}" is multiplied with is not finite; the model's weights are damaged, or of another architecture`);
  const prior = squares.length === 1 ? 0 : averageTokens;
  return squares.map((vector, e) => Float32Array.from(vector, (sum, c) => Math.sqrt((sum + prior * (average[c] as number)) / Math.max(1, (rows[e] as number) + prior))));
}

const firstOf = (weight: ExpertMatrices): Tensor => ("shape" in weight ? weight : (weight[0] as Tensor));

function beginTogether({ storage: a }: Tensor, { storage: b }: Tensor): boolean {
  if (typeof a === "number" || typeof b === "number") return a === b;
  return a.buffer === b.buffer && a.byteOffset === b.byteOffset;
}
