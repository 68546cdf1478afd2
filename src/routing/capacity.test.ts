import fc from "fast-check";
import { expect, test } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { applyCapacity, countExperts, expertCapacity } from "./capacity.js";
import type { DropPolicy } from "./types.js";

const engine = new ReferenceEngine({ float: "f64" });
const arena = new Arena(engine, 2 ** 20);

function cap(experts: number[], weights: number[], k: number, capacity: number, drop: DropPolicy, numExperts: number) {
  arena.reset();
  const tape = new Tape(engine, arena);
  const shape = [experts.length / k, k];
  const capped = applyCapacity(tape, tape.constant(shape, experts, "i32"), tape.constant(shape, weights), capacity, drop, numExperts);
  return { ...capped, experts: Array.from(engine.read(capped.experts)), weights: Array.from(engine.read(capped.weights)) };
}

test.each([
  [1.25, 8, 2, 4, 5],
  [1, 5, 1, 4, 2],
  [1.1, 100, 1, 10, 11], // 11.000000000000002 before rounding up
  [0.01, 8, 1, 8, 1],
  [100, 8, 2, 4, 8], // never more than all tokens
])("capacity: factor %d, %d tokens, k %d, %d experts -> %d rows", (factor, tokens, k, experts, rows) => {
  expect(expertCapacity(factor, tokens, k, experts)).toBe(rows);
});

test("counting experts: empty slots count for nobody", () => {
  expect(countExperts([0, 2, -1, -1, 2, -1], 2, 4)).toEqual({ load: Int32Array.of(1, 0, 2, 0), empty: 1 });
});

// Four tokens, two choices each, two rows per expert: experts 0 and 1 overflow.
const experts = [0, 1, 0, 1, 0, 2, 1, 0];
const weights = [0.5, 0.4, 0.6, 0.3, 0.9, 0.1, 0.7, 0.2];

test.each<[DropPolicy, number[], number]>([
  ["position", [0, 1, 0, -1, -1, 2, 1, -1], 0],
  ["probability", [-1, 1, 0, -1, 0, 2, 1, -1], 0],
  ["batch-prioritised", [-1, -1, 0, 1, 0, 2, 1, -1], 1],
])("drop policy %s", (drop, kept, fullyDropped) => {
  const capped = cap(experts, weights, 2, 2, drop, 3);
  expect(capped).toMatchObject({ experts: kept, dropped: 3, fullyDropped });
  expect(capped.weights).toEqual(weights.map((w, i) => (kept[i] === -1 ? 0 : w)));
});

test("the best weight of a token need not be its first, and an empty slot takes no room", () => {
  // A selection bias has put a lower weight first.
  expect(cap([0, 1, 0, 1], [0.3, 0.4, 0.1, 0.9], 2, 1, "batch-prioritised", 2).experts).toEqual([-1, -1, 0, 1]);
  expect(cap([-1, 1, 0, -1], [0, 0.4, 0.5, 0], 2, 1, "position", 2)).toMatchObject({ experts: [-1, 1, 0, -1], dropped: 0, fullyDropped: 0 });
});

test("every policy fills each expert up to its capacity and drops nothing else", () => {
  const choices = fc.integer({ min: 1, max: 20 }).chain((T) =>
    fc.record({
      picks: fc.array(fc.uniqueArray(fc.nat(4), { minLength: 3, maxLength: 3 }), { minLength: T, maxLength: T }),
      weights: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 3 * T, maxLength: 3 * T }),
      capacity: fc.integer({ min: 1, max: 12 }),
      drop: fc.constantFrom<DropPolicy>("position", "probability", "batch-prioritised"),
    }),
  );
  fc.assert(
    fc.property(choices, (c) => {
      const before = c.picks.flat();
      const after = cap(before, c.weights, 3, c.capacity, c.drop, 5);
      const load = countExperts(before, 3, 5).load;
      const kept = countExperts(after.experts, 3, 5);
      expect([...kept.load]).toEqual([...load].map((n) => Math.min(n, c.capacity)));
      expect(after.dropped).toBe(before.length - kept.load.reduce((a, b) => a + b));
      expect(after.fullyDropped).toBe(kept.empty);
      after.experts.forEach((e, i) => expect([e, after.weights[i]]).toEqual(e === -1 ? [-1, 0] : [before[i], c.weights[i]]));
      if (c.drop !== "probability") return;
      for (let e = 0; e < 5; e++) {
        const [served, refused] = [true, false].map((s) => c.weights.filter((_, i) => before[i] === e && (after.experts[i] === e) === s)) as [number[], number[]];
        expect(Math.min(...served)).toBeGreaterThanOrEqual(Math.max(...refused, -Infinity));
      }
    }),
  );
});
