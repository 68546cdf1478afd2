import { check, SwitchyardError } from "../errors.js";
import { Random } from "../tensor/random.js";
import type { Tokens } from "./tokens.js";

export interface BatchOptions {
  /** Tokens per sequence. */
  context: number;
  /** Sequences per batch. */
  batch: number;
}

export interface SamplerOptions extends BatchOptions {
  seed: number;
  /** shuffled: every window of `context` tokens once per epoch, in a new order each; random: uniformly random offsets. */
  order: "shuffled" | "random";
}

/** Sequences one after another; targets are the tokens that follow the inputs. */
export interface TokenBatch {
  inputs: Int32Array;
  targets: Int32Array;
  /** Sequences. */
  batch: number;
}

/** Larger batches are a slip of the keyboard: their activations would need terabytes. */
const maxBatchTokens = 2 ** 28;

/** Where a sampler stands. */
export interface SamplerState {
  /** Sequences drawn so far. */
  drawn: number;
}

function checkLength(tokens: Tokens, context: number, part: string): void {
  check(
    tokens.length > context,
    "ERR_SWITCHYARD_DATA",
    () => `data: ${tokens.length} tokens${part} are fewer than one sequence of context + 1 = ${context + 1}; give more text or a smaller context`,
  );
}

function fillSequence(out: TokenBatch, row: number, tokens: Tokens, start: number, context: number): void {
  out.inputs.set(tokens.subarray(start, start + context), row * context);
  out.targets.set(tokens.subarray(start + 1, start + context + 1), row * context);
}

/** Training batches without end. What comes next depends on the seed and on how many sequences were drawn, nothing else. */
export class BatchSampler {
  private drawn = 0;
  private epoch = -1;
  private permutation = new Int32Array();
  /** Seed of the 0th generator below; the n-th has base + n. */
  private readonly base: number;

  /** Throws ERR_SWITCHYARD_DATA when there is not one whole window, ERR_SWITCHYARD_USAGE for batches that no memory holds. */
  constructor(
    private readonly tokens: Tokens,
    private readonly options: SamplerOptions,
  ) {
    const { context, batch } = options;
    checkLength(tokens, context, " for training");
    check(batch * context <= maxBatchTokens, "ERR_SWITCHYARD_USAGE", () => `data: expected batches of at most ${maxBatchTokens} tokens, got ${batch} sequences of ${context}`);
    this.base = new Random(options.seed).seed() % 2 ** 52;
  }

  next(): TokenBatch {
    const { context, batch } = this.options;
    const out = { inputs: new Int32Array(batch * context), targets: new Int32Array(batch * context), batch };
    for (let row = 0; row < batch; row++) fillSequence(out, row, this.tokens, this.start(this.drawn++), context);
    return out;
  }

  state(): SamplerState {
    return { drawn: this.drawn };
  }

  /** Throws ERR_SWITCHYARD_CHECKPOINT for what is no state of a sampler; it may come from a file. */
  restore(state: unknown): void {
    const { drawn } = { ...(state as Partial<SamplerState> | null) };
    if (typeof drawn !== "number" || !Number.isSafeInteger(drawn) || drawn < 0) throw new SwitchyardError("ERR_SWITCHYARD_CHECKPOINT", `sampler: expected the number of sequences drawn, got ${drawn}`);
    this.drawn = drawn;
  }

  /** First token of the n-th sequence. */
  private start(n: number): number {
    const { context, order } = this.options;
    if (order === "random") return new Random(this.base + n).below(this.tokens.length - context);
    const windows = Math.floor((this.tokens.length - 1) / context);
    const epoch = Math.floor(n / windows);
    if (epoch !== this.epoch) {
      this.permutation = Int32Array.from({ length: windows }, (_, i) => i);
      new Random(this.base + epoch).shuffle(this.permutation);
      this.epoch = epoch;
    }
    return (this.permutation[n % windows] as number) * context;
  }
}

/**
 * Windows that visit every position once, in order. The last batch may have fewer sequences; what is left after the last whole
 * window comes by itself, as one shorter sequence.
 */
export function* evaluationWindows(tokens: Tokens, { context, batch }: BatchOptions): Generator<TokenBatch> {
  checkLength(tokens, context, "");
  const positions = tokens.length - 1;
  const windows = Math.floor(positions / context);
  for (let first = 0; first < windows; first += batch) yield window(tokens, first * context, context, Math.min(batch, windows - first));
  const rest = positions % context;
  if (rest > 0) yield window(tokens, windows * context, rest, 1);
}

/** `rows` sequences of `length` tokens, one after another from `start` on. */
function window(tokens: Tokens, start: number, length: number, rows: number): TokenBatch {
  const end = start + rows * length;
  return { inputs: Int32Array.from(tokens.subarray(start, end)), targets: Int32Array.from(tokens.subarray(start + 1, end + 1)), batch: rows };
}
