import { gradOf, type Tape } from "../autograd/tape.js";
import { spread } from "../engine/broadcast.js";
import type { BinaryFn, UnaryFn } from "../engine/engine.js";
import type { Tensor } from "../tensor/tensor.js";

/** y = fn(x), element by element. Backward: dx = dy fn'(x). */
export function unary(tape: Tape, fn: UnaryFn, x: Tensor): Tensor {
  const { engine } = tape;
  const y = tape.alloc(x.shape);
  engine.unary(fn, y, x);
  tape.record([y], [x], () => tape.into(x, (dx, accumulate) => engine.unaryBackward(fn, dx, gradOf(y), x, accumulate)));
  return y;
}

/** y = factor * x. Backward: dx = factor * dy. */
export function scale(tape: Tape, x: Tensor, factor: number): Tensor {
  const { engine } = tape;
  const y = tape.alloc(x.shape);
  engine.scale(y, x, factor);
  tape.record([y], [x], () => tape.into(x, (dx, accumulate) => engine.scale(dx, gradOf(y), factor, accumulate)));
  return y;
}

/**
 * y = a fn b, element by element, in the shape of a; b has that shape too, or is one element, a row [cols] or a column [rows, 1] that is repeated over a.
 * Backward: db is the sum over the elements that b was repeated for. Throws ERR_SWITCHYARD_SHAPE.
 */
export function binary(tape: Tape, fn: BinaryFn, a: Tensor, b: Tensor): Tensor {
  const { engine } = tape;
  const over = spread(a, b);
  const y = tape.alloc(a.shape);
  engine.binary(fn, y, a, b);
  tape.record([y], [a, b], () => {
    const dy = gradOf(y);
    const linear = fn === "add" || fn === "sub";
    if (linear) tape.pass(a, dy);
    else if (a.requiresGrad) tape.overwrite([a], ([da]) => engine.binary(fn, da, dy, b));
    if (!b.requiresGrad) return;
    if (fn === "add" && over === "same") return tape.pass(b, dy);
    // d/db: 1, -1, a, or -(a/b)/b; then summed over where b was spread.
    const full = tape.alloc(a.shape);
    if (linear) engine.scale(full, dy, fn === "add" ? 1 : -1);
    else {
      engine.binary("mul", full, dy, fn === "mul" ? a : y);
      if (fn === "div") {
        engine.binary("div", full, full, b);
        engine.scale(full, full, -1);
      }
    }
    tape.into(b, (db, accumulate) => {
      if (over === "same") engine.scale(db, full, 1, accumulate);
      else engine.sum(db, full, over, accumulate);
    });
    tape.arena.release(full);
  });
  return y;
}

/** a + b, b repeated as in `binary`. */
export const add = (tape: Tape, a: Tensor, b: Tensor): Tensor => binary(tape, "add", a, b);
/** a * b element by element, b repeated as in `binary`. */
export const mul = (tape: Tape, a: Tensor, b: Tensor): Tensor => binary(tape, "mul", a, b);
/** a / b element by element, b repeated as in `binary`. */
export const div = (tape: Tape, a: Tensor, b: Tensor): Tensor => binary(tape, "div", a, b);

/** Sum of each row -> [rows, 1], of each column -> [cols], or of everything -> [1]. Backward: dy repeated over what was added. */
export function sum(tape: Tape, x: Tensor, over: "rows" | "columns" | "all"): Tensor {
  const { engine } = tape;
  const y = tape.alloc(over === "rows" ? [x.rows, 1] : over === "columns" ? [x.cols] : [1]);
  engine.sum(y, x, over);
  tape.record([y], [x], () =>
    tape.overwrite([x], ([dx]) => {
      engine.fill(dx, 0);
      engine.binary("add", dx, dx, gradOf(y));
    }),
  );
  return y;
}

/** Mean of everything -> [1]. */
export const mean = (tape: Tape, x: Tensor): Tensor => scale(tape, sum(tape, x, "all"), 1 / x.size);
