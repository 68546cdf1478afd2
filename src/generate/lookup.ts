/** Longest and shortest ends of the text that are looked for in what came before. */
const longestGram = 4;
const shortestGram = 2;

/**
 * Guesses how a text goes on from what it said before: where its last few tokens occurred last, the tokens that followed there
 * (prompt look-up decoding, Saxena 2023). A model then checks all of the guesses in one pass. Each token is entered once; a guess costs
 * a few look-ups, however long the text is.
 */
export class NgramLookup {
  private readonly tokens: number[] = [];
  /** Per length of n-gram: n-gram -> the place after its last occurrence but the one at the end. */
  private readonly places: readonly Map<string, number>[] = Array.from({ length: longestGram - shortestGram + 1 }, () => new Map());

  /** Enters the next tokens of the text. */
  push(tokens: readonly number[]): void {
    for (const token of tokens) {
      // The n-grams that end before this token now have a continuation.
      for (const [key, map] of this.endings()) map.set(key, this.tokens.length);
      this.tokens.push(token);
    }
  }

  /** `most` tokens that may come next: those after the longest n-gram that has occurred before; none where none has. */
  guess(most: number): number[] {
    for (const [key, map] of this.endings()) {
      const place = map.get(key);
      if (place === undefined) continue;
      const guess: number[] = [];
      // What repeats with a period shorter than the guess goes on from the guess itself.
      for (let i = place; guess.length < most; i++) guess.push((this.tokens[i] ?? guess[i - this.tokens.length]) as number);
      return guess;
    }
    return [];
  }

  /** The n-grams at the end, the longest first. */
  private *endings(): Generator<[string, Map<string, number>]> {
    for (let n = Math.min(longestGram, this.tokens.length); n >= shortestGram; n--) {
      yield [this.tokens.slice(-n).join(","), this.places[n - shortestGram] as Map<string, number>];
    }
  }
}
