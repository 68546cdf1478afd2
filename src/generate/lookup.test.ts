import { describe, expect, it } from "vitest";
import { NgramLookup } from "./lookup.js";

const entered = (tokens: number[]) => {
  const lookup = new NgramLookup();
  lookup.push(tokens);
  return lookup;
};
const after = (tokens: number[], most: number) => entered(tokens).guess(most);

describe("n-gram look-up", () => {
  it("goes on as the text did where its end occurred before", () => {
    expect(after([1, 2, 3, 4, 5, 1, 2], 3)).toEqual([3, 4, 5]);
    expect(after([1, 2, 3, 4, 5, 1, 2], 1)).toEqual([3]);
  });

  it("prefers a longer match, and of equal ones the last", () => {
    expect(after([7, 1, 2, 8, 9, 1, 2, 5, 7, 1, 2], 1)).toEqual([8]); // 7 1 2 is longer than the later 1 2
    expect(after([1, 2, 8, 1, 2, 9, 1, 2], 1)).toEqual([9]);
    expect(after([6, 7, 8, 9, 1, 2, 3, 5, 8, 9, 1, 2, 4, 6, 7, 8, 9, 1, 2], 1)).toEqual([3]); // six tokens, after the five that the last place has
  });

  it("guesses nothing for what is new, or for a single token", () => {
    expect(after([1, 2, 3, 4], 4)).toEqual([]);
    expect(after([1, 5, 1], 4)).toEqual([]);
    expect(after([], 4)).toEqual([]);
    expect(after([0, 0], 4)).toEqual([]);
  });

  it("follows a loop shorter than the guess", () => expect(after([1, 2, 3, 1, 2, 3, 1], 7)).toEqual([2, 3, 1, 2, 3, 1, 2]));

  it("finds the same whether tokens come one by one or at once", () => {
    const tokens = Array.from({ length: 300 }, (_, i) => (i * i * 7 + (i >> 3)) % 5);
    const one = entered([]);
    for (const [i, token] of tokens.entries()) {
      one.push([token]);
      expect(one.guess(6, 0.1)).toEqual(entered(tokens.slice(0, i + 1)).guess(6, 0.1));
    }
  });

  it("stops where the guess has become too unlikely, by how often such matches were right in this text", () => {
    // After 1 2 never the same: of two matches with a second-best that goes on otherwise both were wrong, half a one of three is right.
    const differing = entered([1, 2, 3, 1, 2, 4, 1, 2, 5, 1, 2, 6, 1, 2]);
    expect(differing.guess(3, 0.17)).toEqual([]);
    expect(differing.guess(3, 0.16)).toEqual([6]); // of the next, a match of three alone, nothing is known: a half
    expect(differing.guess(3, 0.08)).toEqual([6, 1]);
    expect(differing.guess(3)).toEqual([6, 1, 2]);
    const same = entered(Array.from({ length: 40 }, (_, i) => i % 4));
    expect(same.guess(8, 0.8)).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
  });

  it("counts matches apart whose second-best goes on in the same way", () => {
    const lookup = entered([1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 3, 7, 1, 2]); // 3 after 1 2 every time; the second-best said so once
    const other = entered([1, 2, 3, 9, 1, 2, 4, 8, 1, 2, 3, 7, 1, 2]);
    expect([lookup.guess(1, 0.7), other.guess(1, 0.7)]).toEqual([[3], []]);
  });
});
