/**
 * Ends a text at the first of `stops` that is complete, which is not emitted; text that may be the beginning of one is
 * held back. What comes out does not depend on how the text is cut into pieces.
 */
export class StopMatcher {
  private held = "";
  /** A stop sequence was found; nothing more will come. */
  stopped = false;

  constructor(private readonly stops: readonly string[]) {}

  /** What of the text so far is certain now. */
  push(piece: string): string {
    if (this.stopped) return "";
    const text = this.held + piece;
    let [start, end] = [text.length, Infinity];
    for (const stop of this.stops) {
      const at = text.indexOf(stop);
      if (at >= 0 && (at + stop.length < end || (at + stop.length === end && at < start))) [start, end] = [at, at + stop.length];
    }
    this.stopped = end < Infinity;
    if (!this.stopped) start = text.length - this.heldLength(text);
    this.held = this.stopped ? "" : text.slice(start);
    return text.slice(0, start);
  }

  /** What was held back, when no more text comes. */
  end(): string {
    const rest = this.held;
    this.held = "";
    return rest;
  }

  /** Length of the longest end of `text` with which a stop sequence begins. */
  private heldLength(text: string): number {
    const longest = (stop: string) => {
      for (let n = Math.min(stop.length - 1, text.length); n > 0; n--) if (text.endsWith(stop.slice(0, n))) return n;
      return 0;
    };
    return Math.max(0, ...this.stops.map(longest));
  }
}
