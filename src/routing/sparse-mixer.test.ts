import { expect, it } from "vitest";
import { gradcheck } from "../../test/gradcheck.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { sparseMixer } from "./sparse-mixer.js";

const engine = new ReferenceEngine({ float: "f64" });

it("shares the weight among the logits close to each chosen one, those chosen before left out", () => {
  using arena = new Arena(engine, 2 ** 16);
  const tape = new Tape(engine, arena);
  const share = (own: number, others: number[]) => Math.exp(own) / others.reduce((sum, l) => sum + Math.exp(l), Math.exp(own));
  const weights = sparseMixer(tape, tape.constant([2, 4], [2, 1.9, 1.7, 0, -1, -1.1, -3, -5]), tape.constant([2, 2], [0, 1, 0, 1], "i32"), 0.06);
  // Of 2, what is at most 0.12 * 2 below: only 1.9. Of 1.9, what is at most 0.12 * 1.9 below: 1.7. Below zero the larger magnitude is the other's.
  const want = [share(2, [1.9]), share(1.9, [1.7]), share(-1, [-1.1]), 1];
  engine.read(weights).forEach((w, i) => expect(w).toBeCloseTo(want[i]!, 12));
});

it("has the gradient of a softmax whose members are given", () => {
  const f = (tape: Tape, [logits]: Parameters<Parameters<typeof gradcheck>[1]>[1]) => sparseMixer(tape, logits!, tape.constant([2, 2], [0, 1, 2, 0], "i32"), 0.3);
  expect(gradcheck(engine, f, [{ shape: [2, 3], values: [2, 1.5, 1.2, 0.9, 0.3, 1] }])).toEqual([]);
});
