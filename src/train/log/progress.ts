import { overLayers } from "../../routing/statistics.js";
import { colorEnabled, type Environment, eraseLine, formatDuration, formatNumber, loadBar, type Paint, painter, type TextStream, visibleWidth } from "./format.js";
import type { StepRecord } from "./record.js";

interface ProgressOptions {
  /** Steps at the end of the run. */
  totalSteps: number;
  /** Steps done before this process took over; default 0. */
  startStep?: number;
  stream: TextStream;
  env: Environment;
  /** Milliseconds of a clock; default performance.now. */
  now?: () => number;
}

/** On a terminal at most this often, elsewhere at least this far apart (evaluations and the last step always show). */
const refreshMs = { terminal: 100, plain: 10_000 };

/** Training progress: one line that rewrites itself on a terminal, now and then a plain line elsewhere. */
export class Progress {
  private readonly stream: TextStream;
  private readonly now: () => number;
  private readonly paint: Paint;
  private readonly startMs: number;
  private shownMs = Number.NEGATIVE_INFINITY;
  private line = "";
  private validation: number | undefined;

  constructor(private readonly options: ProgressOptions) {
    this.stream = options.stream;
    this.now = options.now ?? (() => performance.now());
    this.paint = painter(colorEnabled(this.stream, options.env));
    this.startMs = this.now();
  }

  update(record: StepRecord): void {
    this.validation = record.eval?.loss ?? this.validation;
    const now = this.now();
    const due = now - this.shownMs >= (this.stream.isTTY ? refreshMs.terminal : refreshMs.plain);
    if (!due && !record.eval && record.step < this.options.totalSteps) return;
    this.shownMs = now;
    const parts = this.parts(record, now);
    if (!this.stream.isTTY) {
      this.stream.write(`${join(parts)}\n`);
      return;
    }
    this.line = fit(parts, (this.stream.columns ?? 80) - 1);
    this.stream.write(eraseLine + this.line);
  }

  /** Prints a line of its own; the progress line moves below it. */
  message(text: string): void {
    this.stream.write(this.line === "" ? `${text}\n` : `${eraseLine}${text}\n${this.line}`);
  }

  /** Ends the progress line, so that what comes next starts on a new one. */
  finish(): void {
    if (this.line !== "") this.stream.write("\n");
    this.line = "";
  }

  private parts(record: StepRecord, now: number): Part[] {
    const { totalSteps, startStep = 0 } = this.options;
    const msPerStep = (now - this.startMs) / (record.step - startStep);
    const parts: Part[] = [
      { text: `step ${this.paint(`${record.step}/${totalSteps}`, "bold")}`, rank: 0 },
      { text: `loss ${this.paint(record.loss.toFixed(3), "cyan")}`, rank: 1 },
    ];
    if (this.validation !== undefined) parts.push({ text: `val ${this.paint(this.validation.toFixed(3), "cyan")}`, rank: 4 });
    parts.push({ text: `${formatNumber(record.tok_s)} tok/s`, rank: 5 });
    if (record.step < totalSteps) parts.push({ text: `eta ${formatDuration((msPerStep * (totalSteps - record.step)) / 1000)}`, rank: 2 });
    const maxvio = overLayers(record.moe, (layer) => layer.maxvio);
    if (maxvio) {
      const worst = record.moe[maxvio.worstIndex]!;
      parts.push({ text: `layer ${worst.layer} ${loadBar(worst.load, this.paint)}`, rank: 3 }, { text: `maxvio ${worst.maxvio.toFixed(2)}`, rank: 6 });
    }
    return parts;
  }
}

/** A piece of the line; where there is no room, the highest rank goes first. */
interface Part {
  text: string;
  rank: number;
}

const join = (parts: readonly Part[]): string => parts.map((part) => part.text).join("  ");

function fit(parts: readonly Part[], width: number): string {
  const line = join(parts);
  if (visibleWidth(line) <= width || parts.length === 1) return line;
  const last = Math.max(...parts.map((part) => part.rank));
  return fit(parts.filter((part) => part.rank !== last), width);
}
