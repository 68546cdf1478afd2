import { expect, it } from "vitest";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { add, reshape, scale } from "../ops/index.js";
import { Tape } from "./tape.js";

const engine = new ReferenceEngine();

it("a scope hands back all but constants, its result and what it keeps, views included", () => {
  using arena = new Arena(engine, 2 ** 16);
  const tape = new Tape(engine, arena);
  const x = tape.constant([16], new Float32Array(16).fill(1));
  const once = () =>
    tape.scope(
      () => {
        const constant = tape.constant([16], new Float32Array(16).fill(5));
        const doubled = scale(tape, x, 2);
        const inner = tape.scope(() => add(tape, doubled, constant), (y) => [y]); // 7
        return { out: reshape(tape, add(tape, inner, doubled), [4, 4]), kept: scale(tape, inner, 2), constant }; // 9, 14
      },
      ({ out, kept }) => [out, kept],
    );
  const first = once();
  const more = Array.from({ length: 5 }, once);
  for (const { out, kept, constant } of [first, ...more]) {
    expect([...engine.read(out)]).toEqual(new Array(16).fill(9));
    expect([...engine.read(kept)]).toEqual(new Array(16).fill(14));
    expect([...engine.read(constant)]).toEqual(new Array(16).fill(5));
  }
  // Each round has a constant, `out` and `kept` for good, 64 bytes each; `doubled` and `inner` are the same memory in all.
  const next = Array.from({ length: 3 }, () => (tape.alloc([16]).storage as Float32Array).byteOffset / 64);
  expect(next.toSorted((a, b) => a - b).slice(2)).toEqual([1 + 3 * 6 + 2]);
});

it("a recording tape keeps everything for the backward pass", () => {
  using arena = new Arena(engine, 2 ** 16);
  const tape = new Tape(engine, arena, { recording: true });
  const x = tape.constant([4], [1, 2, 3, 4]);
  x.requiresGrad = true;
  const y = tape.scope(() => add(tape, scale(tape, x, 3), scale(tape, x, 4)), (out) => [out]);
  tape.backward(y);
  expect([...engine.read(x.grad!)]).toEqual([7, 7, 7, 7]);
});
