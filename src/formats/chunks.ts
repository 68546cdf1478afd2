import { closeSync, openSync } from "node:fs";
import { withIoErrors } from "./io.js";
import { readFully } from "./source.js";

/** Bytes [begin, end) of a file, `step` at a time, each piece in a buffer of its own. Throws ERR_SWITCHYARD_IO, ERR_SWITCHYARD_FORMAT. */
export function* readChunks(file: string, begin: number, end: number, step: number): Generator<Uint8Array<ArrayBuffer>> {
  const fd = withIoErrors("read", file, () => openSync(file, "r"));
  try {
    for (let at = begin; at < end; at += step) {
      const bytes = new Uint8Array(Math.min(step, end - at));
      withIoErrors("read", file, () => readFully(fd, file, bytes, at));
      yield bytes;
    }
  } finally {
    closeSync(fd);
  }
}
