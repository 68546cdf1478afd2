import { describe, expect, it } from "vitest";
import { NgramLookup } from "./lookup.js";

const after = (tokens: number[], most: number) => {
  const lookup = new NgramLookup();
  lookup.push(tokens);
  return lookup.guess(most);
};

describe("n-gram look-up", () => {
  it("goes on as the text did where its end occurred before", () => {
    expect(after([1, 2, 3, 4, 5, 1, 2], 3)).toEqual([3, 4, 5]);
    expect(after([1, 2, 3, 4, 5, 1, 2], 1)).toEqual([3]);
  });

  it("prefers a longer match, and of equal ones the last", () => {
    expect(after([7, 1, 2, 8, 9, 1, 2, 5, 7, 1, 2], 1)).toEqual([8]); // 7 1 2 is longer than the later 1 2
    expect(after([1, 2, 8, 1, 2, 9, 1, 2], 1)).toEqual([9]);
  });

  it("guesses nothing for what is new, or for a single token", () => {
    expect(after([1, 2, 3, 4], 4)).toEqual([]);
    expect(after([1, 5, 1], 4)).toEqual([]);
    expect(after([], 4)).toEqual([]);
  });

  it("follows a loop shorter than the guess", () => expect(after([1, 2, 3, 1, 2, 3, 1], 7)).toEqual([2, 3, 1, 2, 3, 1, 2]));
});
