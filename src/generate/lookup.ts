/** A match of fewer tokens is no reason to guess. */
const shortestMatch = 2;
/** Tokens that are compared: of longer matches the last is as good as the longest. */
const longestMatch = 16;
/** Lengths of matches that are counted apart: what follows those of so many tokens and of more is about equally often right. */
const lengths = 8;
/** Places that are compared, the last ones first. */
const mostPlaces = 64;
/** Ids are below it: two of them are one exact number. */
const idRange = 2 ** 26;

/**
 * Guesses how a text goes on from what it said before: where the longest match of its end occurred, the tokens that followed there (prompt look-up
 * decoding, Saxena 2023). A model then checks all of the guesses in one pass. How often such guesses were right is counted on the text itself, the prompt
 * included, by the length of the match and by whether the second-best match goes on in the same way, so that unlikely ones can be left out. Each token is
 * entered once, at the cost of a few comparisons, however long the text is.
 */
export class NgramLookup {
  private readonly tokens: number[] = [];
  /** Pair of tokens -> the place after its last occurrence. */
  private readonly last = new Map<number, number>();
  /** Per place: the one after the occurrence before of the pair that ends there; 0: none. */
  private readonly before: number[] = [0];
  /** The place after the longest match of the end, and its length; 0: none. */
  private match = 0;
  private length = 0;
  /** The place after the second-best. */
  private rival = 0;
  /** By `kind`: how often the token after a match was the next one, and how often there was such a match; at first as if half of one had been right. */
  private readonly right = new Float64Array(3 * (lengths + 1)).fill(0.5);
  private readonly all = new Float64Array(3 * (lengths + 1)).fill(1);

  /** Enters the next tokens of the text. */
  push(tokens: readonly number[]): void {
    for (const token of tokens) {
      if (this.match > 0) {
        const kind = this.kind(this.length, this.tokens[this.match], this.rival > 0 ? this.tokens[this.rival] : undefined);
        this.all[kind]++;
        if (this.tokens[this.match] === token) this.right[kind]++;
      }
      const end = this.tokens.push(token);
      const pair = (this.tokens[end - 2] ?? 0) * idRange + token;
      const place = this.last.get(pair) ?? 0;
      this.before.push(place);
      this.last.set(pair, end);
      this.findMatches(place);
    }
  }

  /** Up to `most` tokens that may come next, as long as all of them together are right with a probability of at least `leastLikely`. */
  guess(most: number, leastLikely = 0): number[] {
    const guess: number[] = [];
    // What repeats with a period shorter than the guess goes on from the guess itself.
    const at = (place: number) => (this.tokens[place] ?? guess[place - this.tokens.length]) as number;
    let { rival } = this;
    for (let i = 0, likely = 1; this.match > 0 && i < most; i++) {
      const token = at(this.match + i);
      const other = rival > 0 ? at(rival + i) : undefined;
      const kind = this.kind(this.length + i, token, other);
      likely *= this.right[kind] / this.all[kind];
      if (likely < leastLikely) break;
      if (other !== token) rival = 0;
      guess.push(token);
    }
    return guess;
  }

  /** Of a guess after a match of `length` tokens, where the second-best has `other` next. */
  private kind(length: number, token: number | undefined, other: number | undefined): number {
    return 3 * Math.min(length, lengths) + (other === undefined ? 0 : other === token ? 1 : 2);
  }

  /** Compares the end with the places from `place` back that have its last two tokens before them. */
  private findMatches(place: number): void {
    const { tokens, before } = this;
    const end = tokens.length;
    this.match = this.rival = this.length = 0;
    for (let n = 0, second = 0; place > 0 && n < mostPlaces && second < longestMatch; n++, place = before[place]) {
      let length = 0;
      while (length < longestMatch && length < place && tokens[place - 1 - length] === tokens[end - 1 - length]) length++;
      if (length < shortestMatch) continue;
      if (length > this.length) {
        [second, this.rival] = [this.length, this.match];
        [this.length, this.match] = [length, place];
      } else if (length > second) {
        [second, this.rival] = [length, place];
      }
    }
  }
}
