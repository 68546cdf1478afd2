import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ioError } from "./io.js";

/**
 * Writes a file into a temporary sibling that takes its name when all is on the disk: a crash leaves what was there before, an error nothing else.
 * Throws ERR_SWITCHYARD_IO and what `fill` throws.
 */
export async function writeFileAtomically(path: string, fill: (handle: FileHandle) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString("hex")}`);
  let handle: FileHandle | undefined;
  try {
    handle = await open(temporary, "wx");
    await fill(handle);
    await handle.sync();
    await handle.close();
    await rename(temporary, path);
    const folder = await open(dirname(path), "r");
    await folder.sync().finally(() => folder.close());
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw ioError("write", path, error);
  }
}
