import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { check, SwitchyardError } from "../errors.js";
import { withIoErrors } from "./io.js";

/** Bytes of known number that can be read at any place: a file's, or some in memory. */
export interface Source {
  /** What errors call it. */
  readonly name: string;
  readonly bytes: number;
  /** Fills `into` with the bytes from `position` on, which are all there unless the file shrank: ERR_SWITCHYARD_FORMAT. */
  read(into: Uint8Array, position: number): void;
}

export function memorySource(content: Uint8Array, name: string): Source {
  return { name, bytes: content.length, read: (into, position) => into.set(content.subarray(position, position + into.length)) };
}

/** Runs `action` on an open file. Throws ERR_SWITCHYARD_IO, and ERR_SWITCHYARD_FORMAT for what is not a file, naming what `kind` of file was expected. */
export function withFile<T>(path: string, kind: string, action: (source: Source) => T): T {
  return withIoErrors("read", path, () => {
    // Opening a pipe would wait for its writer.
    check(statSync(path).isFile(), "ERR_SWITCHYARD_FORMAT", () => `${path}: expected a ${kind} file, got something that is not a file`);
    const fd = openSync(path, "r");
    try {
      return action({ name: path, bytes: fstatSync(fd).size, read: (into, position) => readFully(fd, path, into, position) });
    } finally {
      closeSync(fd);
    }
  });
}

/** The end of a message about a file of `bytes` bytes whose header asks for at least `least`; of more than 2^53 the header is wrong. */
export function cutShort(bytes: number, least: number): string {
  return `; the file is ${Number.isSafeInteger(least) ? `cut short: ${bytes} of at least ${least} bytes` : "damaged"}; copy or download it again`;
}

/** Fills `into` from an open file. Throws ERR_SWITCHYARD_FORMAT where the file ends before. */
export function readFully(fd: number, path: string, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length; ) {
    const n = readSync(fd, into, done, into.length - done, position + done);
    if (n === 0) throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${path}: expected ${into.length} bytes at ${position}, the file ends after ${done} of them`);
    done += n;
  }
}
