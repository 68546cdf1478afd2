import { SwitchyardError } from "../../errors.js";
import { cutShort, type Source } from "../source.js";

/** A larger header is no model: it is a mistake or an attack. The largest vocabularies published take some 15 MB. */
const maxHeaderBytes = 25 * 2 ** 20;
const firstRead = 2 ** 16;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads a file's header from its start, little-endian, never beyond its end and never more of it than was asked for so far, doubled. */
export class Cursor {
  at = 0;
  /** What is now being read, for errors. */
  field = "magic";
  private bytes = new Uint8Array(0);
  private view = new DataView(this.bytes.buffer);

  constructor(private readonly source: Source) {}

  get fileBytes(): number {
    return this.source.bytes;
  }

  get left(): number {
    return this.fileBytes - this.at;
  }

  u32(): number {
    const at = this.step(4); // which may replace the view
    return this.view.getUint32(at, true);
  }

  /** A count or size; beyond 2^53 none can be right. */
  u64(): number {
    const at = this.step(8);
    const n = this.view.getBigUint64(at, true);
    return n <= Number.MAX_SAFE_INTEGER ? Number(n) : this.fail(`expected at most 2^53 - 1, got ${n}`);
  }

  /** The next `count` bytes, a copy that starts an ArrayBuffer. */
  take(count: number): Uint8Array<ArrayBuffer> {
    const at = this.step(count);
    return this.bytes.slice(at, at + count);
  }

  /** A string of at most `maxBytes` bytes of UTF-8, after its length. */
  string(maxBytes: number): string {
    const length = this.u64();
    if (length > maxBytes) this.fail(`expected a string of at most ${maxBytes} bytes, got a length of ${length}`);
    const at = this.step(length);
    try {
      return decoder.decode(this.bytes.subarray(at, at + length));
    } catch {
      return this.fail("the string is not valid UTF-8");
    }
  }

  fail(what: string): never {
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${this.source.name}: ${this.field}: ${what}`, { details: { file: this.source.name, field: this.field } });
  }

  /** The same of what makes a file of at least `least` bytes, which this is not. */
  failShort(what: string, least: number): never {
    this.fail(`${what}${cutShort(this.fileBytes, least)}`);
  }

  /** Fails for more than `most` things, and for more of at least `bytes` bytes each than are left. */
  checkRoom(count: number, things: string, most: number, bytes: number): void {
    const message = () => `expected at most ${most} ${things} that the ${this.left} bytes left can hold, got ${count}`;
    if (count > most) this.fail(message());
    if (count * bytes > this.left) this.failShort(message(), this.at + count * bytes);
  }

  /** Moves over `count` bytes, which are then in `bytes`, and returns where they start. */
  private step(count: number): number {
    const start = this.at;
    const end = start + count;
    if (end > this.fileBytes) this.failShort(`expected ${count} bytes at ${start}, the file ends after ${this.left} of them`, end);
    if (end > maxHeaderBytes) this.fail(`expected a header of at most ${maxHeaderBytes} bytes`);
    if (end > this.bytes.length) this.load(end);
    this.at = end;
    return start;
  }

  private load(end: number): void {
    const bytes = new Uint8Array(Math.min(this.fileBytes, maxHeaderBytes, Math.max(end, firstRead, 2 * this.bytes.length)));
    bytes.set(this.bytes);
    this.source.read(bytes.subarray(this.bytes.length), this.bytes.length);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}
