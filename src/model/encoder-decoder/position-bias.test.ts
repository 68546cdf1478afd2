import { expect, it } from "vitest";
import { Tape } from "../../autograd/tape.js";
import { Arena } from "../../engine/arena.js";
import { ReferenceEngine } from "../../engine/reference.js";
import { distanceBucket, positionBias } from "./position-bias.js";

// From _relative_position_bucket of transformers 5.23.0, 32 buckets up to 128.
it("distances fall into the published buckets", () => {
  const encoder = [-200, -128, -91, -64, -32, -16, -8, -7, -1, 0, 1, 7, 8, 11, 12, 15, 16, 31, 32, 64, 127, 128];
  expect(encoder.map((d) => distanceBucket(d, true, 32, 128))).toEqual([15, 15, 15, 14, 12, 10, 8, 7, 1, 0, 17, 23, 24, 24, 25, 25, 26, 27, 28, 30, 31, 31]);
  const decoder = [-200, -128, -113, -64, -32, -31, -17, -16, -15, -1, 0, 5];
  expect(decoder.map((d) => distanceBucket(d, false, 32, 128))).toEqual([31, 31, 31, 26, 21, 21, 16, 16, 15, 1, 0, 0]);
});

it("the bias of the last queries is the end of the bias of all", () => {
  const engine = new ReferenceEngine();
  const tape = new Tape(engine, new Arena(engine, 2 ** 20));
  const table = tape.constant([8, 2], Array.from({ length: 16 }, (_, i) => i));
  const of = (queries: number) => Array.from(engine.read(positionBias(tape, { table, bothWays: false, maxDistance: 20, queries, keys: 6 })));
  const [all, last] = [of(6), of(2)];
  for (const h of [0, 1]) expect(last.slice(h * 12, h * 12 + 12)).toEqual(all.slice(h * 36 + 24, h * 36 + 36));
  expect(all.slice(30, 36)).toEqual([5, 4, 3, 2, 1, 0].map((distance) => 2 * distanceBucket(-distance, false, 8, 20)));
});
