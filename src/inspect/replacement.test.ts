import { expect, it } from "vitest";
import { hitRate, type Replacement } from "./replacement.js";

// 1 is used every second time, others once or twice: the oldest use is not always the least valuable.
const groups = [1, 2, 1, 3, 1, 4, 1, 2, 1, 5, 1].map((thing) => [thing]);

it.each<[Replacement, number, number]>([
  ["least recent", 2, 5], // 1 is never the older one of two
  ["least recent", 1, 0],
  ["least frequent", 2, 5],
  ["clairvoyant", 2, 5],
  ["clairvoyant", 3, 6], // keeps 2 while 3 and 4 pass
  ["least recent", 3, 5], // has given 2 away by then
  [{ halfLife: 1e9 }, 3, 5],
  [{ halfLife: 4 }, 3, 5],
])("%o with %i slots: %i hits", (policy, slots, hits) => {
  expect(hitRate(groups, slots, policy, 1)).toBeCloseTo(hits / groups.length, 12);
});

it("what a group needs stays until all of it has been used", () => {
  // Two slots: 1 must not go for 3 before its own group is through.
  expect(hitRate([[1, 2], [1, 3], [1, 2]], 2, "least recent", 1)).toBeCloseTo(2 / 6, 12);
  // 1 has been used most, but 2 and 3 are needed together.
  expect(hitRate([[1], [1], [1], [2, 3], [2, 3]], 2, "least frequent", 1)).toBeCloseTo(4 / 7, 12);
});

it("a half-life between the two is better than either where popularity drifts", () => {
  // Three popular things for 60 tokens, then three others, and a one-off use in between, always of something new.
  const drift = Array.from({ length: 240 }, (_, i) => [i % 2 === 0 ? 1000 + i : 10 * Math.floor(i / 120) + ((i >> 1) % 3)]);
  const rates = (["least recent", "least frequent", { halfLife: 16 }, "clairvoyant"] as Replacement[]).map((policy) => hitRate(drift, 4, policy, 1));
  const [recent, frequent, popular, best] = rates as [number, number, number, number];
  expect(popular).toBeGreaterThan(recent);
  expect(popular).toBeGreaterThan(frequent);
  expect(best).toBeGreaterThanOrEqual(popular);
});
