import type { FileHandle } from "node:fs/promises";
import { check } from "../errors.js";

/**
 * Linux's cache keeps what is written so, at multiples of its size, in huge pages, and the products of a file that is mapped afterwards are some 10 %
 * faster (docs/lab-notebook.md).
 */
const pieceBytes = 2 ** 22;

/** Writes a file from its beginning in pieces of one size, however its bytes come. */
export class PieceWriter {
  private readonly piece = new Uint8Array(pieceBytes);
  private filled = 0;

  constructor(private readonly handle: FileHandle) {}

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + pieceBytes - this.filled);
      this.piece.set(part, this.filled);
      this.filled += part.length;
      done += part.length;
      if (this.filled === pieceBytes) await this.flush();
    }
  }

  /** Writes the bytes that `chunks` gives. Throws ERR_SWITCHYARD_FORMAT, beginning with `what`, unless there are `expected`. */
  async writeAll(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>, expected: number, what: () => string): Promise<void> {
    let written = 0;
    for await (const chunk of chunks) {
      await this.write(chunk);
      written += chunk.length;
    }
    check(written === expected, "ERR_SWITCHYARD_FORMAT", () => `${what()}: expected ${expected} bytes, got ${written}`);
  }

  /** Writes what is left, at the end. */
  async flush(): Promise<void> {
    for (let done = 0; done < this.filled; ) done += (await this.handle.write(this.piece, done, this.filled - done)).bytesWritten;
    this.filled = 0;
  }
}
