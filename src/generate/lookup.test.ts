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
    const differing = [1, 2, 3, 1, 2, 4, 1, 2, 5, 1, 2, 6, 1, 2]; // after 1 2 never the same: three matches of two tokens, all wrong
    expect(entered(differing).guess(3, 0.13)).toEqual([]);
    expect(entered(differing).guess(3, 0.12)).toEqual([6]); // half a one of four; the next, by half of it, is below
    expect(entered(differing).guess(3)).toEqual([6, 1, 2]);
    const same = Array.from({ length: 40 }, (_, i) => i % 4);
    expect(entered(same).guess(8, 0.8)).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
  });
});
