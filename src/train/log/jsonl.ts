import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeFileSync } from "node:fs";
import { check } from "../../errors.js";
import { withIoErrors } from "../../formats/io.js";
import type { StepRecord } from "./record.js";

/** The training log: one JSON object per line, with the operating system when `write` returns. */
export class JsonlLog {
  private readonly fd: number;
  private bytes: number;

  /**
   * Starts a new log, or goes on with one: with `resumeStep`, lines beyond that step are cut off (they will be written
   * again), and so is a last line that a killed process left half-written. Throws ERR_SWITCHYARD_IO, and ERR_SWITCHYARD_USAGE for
   * a file that is something else.
   */
  constructor(
    private readonly path: string,
    options: { resumeStep?: number } = {},
  ) {
    const { resumeStep } = options;
    this.fd = this.io("open", () => openSync(path, "a+"));
    try {
      check(this.io("read", () => beginsAsLog(this.fd)), "ERR_SWITCHYARD_USAGE", () => `training log: ${path} exists and is none; choose another folder for the run, or move it away`);
      this.bytes = resumeStep === undefined ? 0 : this.io("read", () => bytesUpTo(this.fd, resumeStep));
      this.io("truncate", () => ftruncateSync(this.fd, this.bytes));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Appends one line, or throws ERR_SWITCHYARD_IO and leaves the file as it was. */
  write(record: StepRecord): void {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    try {
      this.io("write", () => writeFileSync(this.fd, line));
    } catch (error) {
      ftruncateSync(this.fd, this.bytes);
      throw error;
    }
    this.bytes += line.length;
  }

  close(): void {
    closeSync(this.fd);
  }

  private io<T>(verb: string, action: () => T): T {
    return withIoErrors(`training log: cannot ${verb}`, this.path, action);
  }
}

/** Whether the file is empty or its first line is, as far as it goes, a record. */
function beginsAsLog(fd: number): boolean {
  const first = '{"step":';
  const begin = Buffer.alloc(first.length);
  return fstatSync(fd).size === 0 || first.startsWith(begin.toString("utf8", 0, readSync(fd, begin, 0, begin.length, 0)));
}

/** Length of the leading part of the file that consists of whole records with `step` at most `lastStep`. */
function bytesUpTo(fd: number, lastStep: number): number {
  const chunk = Buffer.alloc(1 << 20);
  let pending = Buffer.alloc(0);
  let kept = 0;
  for (let position = 0; ; ) {
    const count = readSync(fd, chunk, 0, chunk.length, position);
    if (count === 0) return kept;
    position += count;
    pending = Buffer.concat([pending, chunk.subarray(0, count)]);
    for (let end = pending.indexOf("\n"); end >= 0; end = pending.indexOf("\n")) {
      if (!(stepOf(pending.toString("utf8", 0, end)) <= lastStep)) return kept;
      kept += end + 1;
      pending = pending.subarray(end + 1);
    }
  }
}

/** The line's `step`; NaN when it is no record. */
function stepOf(line: string): number {
  try {
    return Number((JSON.parse(line) as { step?: unknown } | null)?.step ?? Number.NaN);
  } catch {
    return Number.NaN;
  }
}
