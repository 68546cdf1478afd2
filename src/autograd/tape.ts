import type { Arena } from "../engine/arena.js";
import type { Engine, Precision } from "../engine/engine.js";
import { check } from "../errors.js";
import type { DType } from "../tensor/dtype.js";
import { contains, type Tensor } from "../tensor/tensor.js";

export interface TapeOptions {
  /** Keep what the backward pass needs. Default false. */
  recording?: boolean;
  /** Dropout, jitter and router noise act, and capacities are the training ones. Default false. */
  training?: boolean;
  /** Operand precision of matrix products. Default: that of `MatrixOps`. */
  precision?: Precision | undefined;
  /** Seed of everything random on this tape. */
  seed?: number;
}

interface Node {
  outputs: readonly Tensor[];
  saved: readonly Tensor[];
  backward: () => void;
}

/**
 * The record of one forward pass: ops allocate their results here and push how to go back.
 * `backward` walks it in reverse, as micrograd does for scalars; a node's tensors are handed back to the
 * arena as soon as it is done, so the backward pass needs hardly more memory than the forward pass.
 */
export class Tape {
  readonly recording: boolean;
  readonly training: boolean;
  readonly precision: Precision | undefined;
  /** Floating-point operations of the matrix products so far, forward and backward. */
  flops = 0;
  private readonly nodes: Node[] = [];
  /** Gradients that are shared by several tensors (see `pass`), and by how many besides the first. */
  private readonly shared = new Map<Tensor, number>();
  private readonly seed: number;
  private draws = 0;
  /** What the innermost `scope` has allocated. */
  private scoped: Tensor[] | undefined;

  constructor(
    readonly engine: Engine,
    readonly arena: Arena,
    options: TapeOptions = {},
  ) {
    this.recording = options.recording ?? false;
    this.training = options.training ?? false;
    this.precision = options.precision;
    this.seed = options.seed ?? 0;
  }

  /** An uninitialised tensor that lives until the arena is reset, or its node's backward pass is over. */
  alloc(shape: readonly number[], dtype: DType = this.engine.float): Tensor {
    const t = this.arena.alloc(dtype, shape);
    this.scoped?.push(t);
    return t;
  }

  /**
   * Runs `compute` and hands back what it allocated, but for constants and what `kept` names, or is a view of. On a recording tape, whose backward pass
   * needs it all, nothing is.
   */
  scope<R>(compute: () => R, kept: (result: R) => readonly (Tensor | undefined)[]): R {
    if (this.recording) return compute();
    const outer = this.scoped;
    const own: Tensor[] = [];
    this.scoped = own;
    try {
      const result = compute();
      const needed = kept(result).filter((k) => k !== undefined);
      for (const t of own) {
        if (!needed.some((k) => contains(t, k))) this.arena.release(t);
        else outer?.push(t);
      }
      return result;
    } finally {
      this.scoped = outer;
    }
  }

  /** A constant with the given elements. It lives until the arena is reset. */
  constant(shape: readonly number[], values: ArrayLike<number>, dtype: DType = this.engine.float): Tensor {
    const t = this.arena.alloc(dtype, shape);
    // A single element need not wait for the ops so far, as `write` does in `together`.
    if (t.size === 1) this.engine.fill(t, values[0] as number);
    else this.engine.write(t, values);
    return t;
  }

  /** A different seed at every call, the same sequence for the same tape seed. */
  nextSeed(): number {
    return (Math.imul(this.seed ^ Math.floor(this.seed / 2 ** 32), 0x9e3779b1) ^ Math.imul(++this.draws, 0x85ebca6b)) >>> 0;
  }

  /** Notes that `outputs` were computed from `inputs`. `saved` are further tensors that only `backward` reads. */
  record(outputs: readonly Tensor[], inputs: readonly (Tensor | undefined)[], backward: () => void, saved: readonly Tensor[] = []): void {
    if (this.recording && inputs.some((t) => t?.requiresGrad === true)) {
      for (const t of outputs) t.requiresGrad = true;
      this.nodes.push({ outputs, saved, backward });
    } else {
      for (const t of saved) this.arena.release(t);
    }
  }

  /** Calls `write` with the gradient of `x` and whether to add to it, if `x` wants one. */
  into(x: Tensor | undefined, write: (dx: Tensor, accumulate: boolean) => void): void {
    if (x === undefined || !x.requiresGrad) return;
    const common = x.grad !== undefined && this.shared.has(x.grad) ? x.grad : undefined;
    if (x.grad === undefined || common !== undefined) x.grad = this.alloc(x.shape, x.dtype);
    if (common !== undefined) {
      this.engine.copy(x.grad, common);
      this.release(common);
    }
    if (x.gradSquares !== undefined) x.gradSquares.known = false;
    write(x.grad, x.gradWritten);
    x.gradWritten = true;
  }

  /** As `into`, for kernels that write the gradients of several tensors in one pass: undefined for those that want none. */
  intoAll(tensors: readonly (Tensor | undefined)[], write: (gradients: (Tensor | undefined)[], accumulate: boolean[]) => void): void {
    const gradients: (Tensor | undefined)[] = tensors.map(() => undefined);
    const accumulate = tensors.map(() => false);
    tensors.forEach((x, i) =>
      this.into(x, (dx, add) => {
        gradients[i] = dx;
        accumulate[i] = add;
      }),
    );
    write(gradients, accumulate);
  }

  /** Adds `dy`, the gradient of an op's output, to that of `x`: without a copy when it is the first and until a second one comes. */
  pass(x: Tensor, dy: Tensor): void {
    if (x.requiresGrad && x.grad === undefined && x.shape.join() === dy.shape.join()) {
      this.shared.set(dy, (this.shared.get(dy) ?? 0) + 1);
      x.grad = dy;
      x.gradWritten = true;
    } else {
      this.into(x, (dx, accumulate) => this.engine.scale(dx, dy, 1, accumulate));
    }
  }

  /** Gives back one tensor's share of a gradient. */
  private release(grad: Tensor): void {
    const others = this.shared.get(grad) ?? 0;
    if (others > 1) this.shared.set(grad, others - 1);
    else if (!this.shared.delete(grad)) this.arena.release(grad);
  }

  /** As `into`, for kernels that can only overwrite, and write the gradients of several tensors in one pass. */
  overwrite<const T extends readonly (Tensor | undefined)[]>(tensors: T, write: (gradients: T) => void): void {
    const gradients = tensors.map((x) => x && this.alloc(x.shape, x.dtype));
    write(gradients as readonly unknown[] as T);
    tensors.forEach((x, i) => x && this.give(x, gradients[i] as Tensor));
  }

  /** Adds `dx`, which the tape may keep, to the gradient of `x`. */
  give(x: Tensor, dx: Tensor): void {
    if (x.requiresGrad && x.grad === undefined) {
      x.grad = dx;
      x.gradWritten = true;
      return;
    }
    this.into(x, (grad, accumulate) => this.engine.scale(grad, dx, 1, accumulate));
    this.arena.release(dx);
  }

  /**
   * Gradients of `output`, weighted by `seed` (a factor, or one weight per element), into every tensor that requires one.
   * Read what you need of the pass, the loss included, before: its memory is reused.
   */
  backward(output: Tensor, seed: number | Tensor = 1): void {
    check(output.requiresGrad, "ERR_SWITCHYARD_USAGE", () => "backward: the output depends on nothing that requires a gradient; make the tape with { recording: true }");
    this.engine.together(() => {
      this.into(output, (grad) => (typeof seed === "number" ? this.engine.fill(grad, seed) : this.engine.copy(grad, seed)));
      for (let node = this.nodes.pop(); node !== undefined; node = this.nodes.pop()) {
        if (node.outputs.some((t) => t.gradWritten)) node.backward();
        for (const t of node.outputs) {
          if (t.grad !== undefined) this.release(t.grad);
          this.arena.release(t);
        }
        for (const t of node.saved) this.arena.release(t);
      }
    });
  }
}

/** The gradient that reached `output`; ops call it in their backward function. */
export function gradOf(output: Tensor): Tensor {
  check(output.grad !== undefined, "ERR_SWITCHYARD_USAGE", () => `gradOf: no gradient reached ${output}`);
  return output.grad;
}
