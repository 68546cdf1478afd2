/** What a row is taken to cost of a pass before passes of different sizes have been timed, ... */
const assumedShare = 1 / 8;
/** ... and the weight of that beside what was measured: of as many passes that were a row larger or smaller than the mean. */
const assumedWeight = 16;
/** What an earlier pass still counts, one pass later: some 50 are remembered. */
const memory = 0.98;
/** A pass that something else interrupted counts as at most so many mean passes, or as so many times its share of rows of those. */
const mostSurprise = 2;

/**
 * What a guess costs: the time of a pass over a batch of rows, by least squares of those so far, and the tokens that came of it. The time of a row more
 * differs much: next to nothing where all weights are read anyway, nearly a pass where each row reads experts of its own.
 */
export class PassCost {
  private passes = 0;
  private rows = 0;
  private time = 0;
  private squares = 0;
  private products = 0;
  private tokens = 0;

  /** A pass over `rows` took `time` (of any unit) and gave `tokens`. */
  record(rows: number, time: number, tokens: number): void {
    const most = this.passes === 0 ? time : ((mostSurprise * this.time) / this.passes) * Math.max(1, (rows * this.passes) / this.rows);
    const counted = Math.min(time, most);
    this.passes = memory * this.passes + 1;
    this.rows = memory * this.rows + rows;
    this.time = memory * this.time + counted;
    this.squares = memory * this.squares + rows * rows;
    this.products = memory * this.products + rows * counted;
    this.tokens = memory * this.tokens + tokens;
  }

  /** The time of one row more. */
  private get row(): number {
    const { passes, rows, time } = this;
    const [variance, covariance] = [this.squares - (rows * rows) / passes, this.products - (rows * time) / passes]; // times passes
    return Math.max(0, (covariance + (assumedWeight * assumedShare * time) / passes) / (variance + assumedWeight));
  }

  /** How likely a guess must be to be worth its row: as likely as the time of that row brings a token otherwise. */
  get leastLikely(): number {
    return this.passes === 0 ? assumedShare : (this.row * this.tokens) / this.time;
  }
}
