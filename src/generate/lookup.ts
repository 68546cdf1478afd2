/** A match of fewer tokens is no reason to guess. */
const shortestMatch = 2;
/** Matches at least so long are one: what follows them is as good as certain, or the text has changed its ways. */
const longestMatch = 16;
/** Places that are compared for the longest match, the last ones first. */
const mostPlaces = 64;
/** Ids are below it: two of them are one exact number. */
const idRange = 2 ** 26;

/**
 * Guesses how a text goes on from what it said before: where the longest match of its end occurred, the tokens that followed there (prompt look-up
 * decoding, Saxena 2023). A model then checks all of the guesses in one pass. How often what follows a match of each length was right is counted on the
 * text itself, the prompt included, so that unlikely guesses can be left out. Each token is entered once, at the cost of a few look-ups.
 */
export class NgramLookup {
  private readonly tokens: number[] = [];
  /** Pair of tokens -> the place after its last occurrence. */
  private readonly last = new Map<number, number>();
  /** Per place: the one after the occurrence before of the pair that ends there; 0: none. */
  private readonly before: number[] = [0];
  /** The place after the longest match of the end, and its length; 0: there is none. */
  private match = 0;
  private length = 0;
  /** Per length of a match: how often the token after it was the next one, and how often there was such a match. */
  private readonly right = new Float64Array(longestMatch + 1).fill(0.5);
  private readonly all = new Float64Array(longestMatch + 1).fill(1);

  /** Enters the next tokens of the text. */
  push(tokens: readonly number[]): void {
    for (const token of tokens) {
      const isRight = this.match > 0 && this.tokens[this.match] === token;
      if (this.match > 0) {
        const length = Math.min(this.length, longestMatch);
        this.all[length]++;
        if (isRight) this.right[length]++;
      }
      const end = this.tokens.push(token);
      const pair = (this.tokens[end - 2] ?? 0) * idRange + token;
      const place = this.last.get(pair) ?? 0;
      this.before.push(place);
      this.last.set(pair, end);
      // No other match can have become longer than one that goes on.
      if (isRight) [this.match, this.length] = [this.match + 1, this.length + 1];
      else this.findMatch(place);
    }
  }

  /** Up to `most` tokens that may come next, as long as all of them together are right with a probability of at least `leastLikely`. */
  guess(most: number, leastLikely = 0): number[] {
    const guess: number[] = [];
    if (this.match === 0) return guess;
    for (let likely = 1; guess.length < most; ) {
      const length = Math.min(this.length + guess.length, longestMatch);
      likely *= this.right[length] / this.all[length];
      if (likely < leastLikely) break;
      // What repeats with a period shorter than the guess goes on from the guess itself.
      const place = this.match + guess.length;
      guess.push((this.tokens[place] ?? guess[place - this.tokens.length]) as number);
    }
    return guess;
  }

  /** Compares the end with the places from `place` back that have its last two tokens before them. */
  private findMatch(place: number): void {
    const { tokens, before } = this;
    const end = tokens.length;
    this.match = this.length = 0;
    for (let n = 0; place > 0 && n < mostPlaces && this.length < longestMatch; n++, place = before[place]) {
      let length = 0;
      while (length < longestMatch && length < place && tokens[place - 1 - length] === tokens[end - 1 - length]) length++;
      if (length > this.length && length >= shortestMatch) [this.match, this.length] = [place, length];
    }
  }
}
