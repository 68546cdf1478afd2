import { describe, expect, it } from "vitest";
import { Random } from "./random.js";

describe("Random", () => {
  it("follows xoshiro128** from a known state", () => {
    const random = new Random(0);
    random.state = [1, 2, 3, 4];
    // By hand: rotl(2 * 5, 7) * 9 = 11520 and s = [7, 0, 1026, rotl(6, 11) = 12288]; then 0, since s[1] is 0.
    expect([random.next(), random.state, random.next()]).toEqual([11520, [7, 0, 1026, 12288], 0]);
  });

  it("gives the same numbers for the same seed, others for another, high bits included", () => {
    const draws = (seed: number): number[] => Array.from({ length: 4 }, ((r) => () => r.next())(new Random(seed)));
    expect(draws(5)).toEqual(draws(5));
    const seeds = [0, 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1];
    expect(new Set(seeds.flatMap(draws)).size).toBe(20);
  });

  it("continues from a state kept as JSON", () => {
    const random = new Random(9);
    random.float();
    const kept = JSON.parse(JSON.stringify(random.state));
    const next = [random.next(), random.float(), random.below(77)];
    const other = new Random(1);
    other.state = kept;
    expect([other.next(), other.float(), other.below(77)]).toEqual(next);
  });

  it("is uniform: floats, integers and shuffles", () => {
    const random = new Random(3);
    const n = 60_000;
    const faces = new Array(6).fill(0);
    const orders = new Map<string, number>();
    let sum = 0;
    for (let i = 0; i < n; i++) {
      sum += random.float();
      faces[random.below(6)]++;
      const order = random.shuffle([0, 1, 2]).join("");
      orders.set(order, (orders.get(order) ?? 0) + 1);
    }
    expect(Math.abs(sum / n - 0.5)).toBeLessThan(5 / Math.sqrt(12 * n));
    expect(orders.size).toBe(6);
    for (const count of [...faces, ...orders.values()]) expect(Math.abs(count - n / 6)).toBeLessThan(5 * Math.sqrt(n / 6));
  });

  it("is uniform below what does not divide 2^32", () => {
    const random = new Random(4);
    const low = Array.from({ length: 3000 }, () => random.below(3 * 2 ** 30)).filter((n) => n < 2 ** 30).length; // half of them, were the rest of a division taken
    expect(Math.abs(low - 1000)).toBeLessThan(5 * Math.sqrt((3000 * 2) / 9));
  });

  it.each([-1, 0.5, 2 ** 53, Number.NaN])("refuses seed %s", (seed) => {
    expect(() => new Random(seed)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE" }));
  });
});
