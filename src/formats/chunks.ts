import { closeSync, openSync, readSync } from "node:fs";
import { check } from "../errors.js";
import { withIoErrors } from "./io.js";

/** Bytes [begin, end) of a file, `step` at a time, each piece in a buffer of its own. Throws ERR_SWITCHYARD_IO, ERR_SWITCHYARD_FORMAT. */
export function* readChunks(file: string, begin: number, end: number, step: number): Generator<Uint8Array<ArrayBuffer>> {
  const fd = withIoErrors("read", file, () => openSync(file, "r"));
  try {
    for (let at = begin; at < end; at += step) {
      const bytes = new Uint8Array(Math.min(step, end - at));
      for (let done = 0; done < bytes.length; ) {
        const n = withIoErrors("read", file, () => readSync(fd, bytes, done, bytes.length - done, at + done));
        check(n > 0, "ERR_SWITCHYARD_FORMAT", () => `${file}: truncated while it was read`);
        done += n;
      }
      yield bytes;
    }
  } finally {
    closeSync(fd);
  }
}
