/**
 * How much each of a number of things is wanted, by frequency and recency in one figure (LRFU, Lee et al. 2001, IEEE TC 50(12)): every use
 * counts 1, and half as much for each `halfLife` of time that has passed since. A short half-life is "least recently used", a long one
 * "least frequently used".
 */
export class Popularity {
  /** log2 of the sum, brought to time 0: figures of different times compare without bringing them up to date. */
  private readonly ranks: Float64Array;

  constructor(
    things: number,
    private readonly halfLife: number,
  ) {
    this.ranks = new Float64Array(things).fill(-Infinity);
  }

  /** Compares things at any time: a larger one is wanted more. */
  rank(thing: number): number {
    return this.ranks[thing] as number;
  }

  /** `count` uses, evenly over the `duration` that ends at `now`. */
  use(thing: number, now: number, count = 1, duration = 1): void {
    const { halfLife, ranks } = this;
    const each = (1 - 2 ** (-duration / halfLife)) / (1 - 2 ** (-1 / halfLife)) / duration;
    ranks[thing] = Math.log2(2 ** ((ranks[thing] as number) - now / halfLife) + count * each) + now / halfLife;
  }
}
