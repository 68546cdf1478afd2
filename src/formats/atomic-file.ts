import { type FileHandle, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { ioError, makeFolders } from "./io.js";
import { abandoned, sibling } from "./siblings.js";

/**
 * Writes a file into a temporary sibling that takes its name when all is on the disk: a crash leaves what was there before, an error nothing else. Folders above it are made.
 * What writers of the same file left when they were killed is removed. Throws ERR_SWITCHYARD_IO and what `fill` throws.
 */
export async function writeFileAtomically(target: string, fill: (handle: FileHandle) => Promise<void>): Promise<void> {
  const path = resolve(target);
  const { path: temporary, release } = sibling(path, "new");
  let handle: FileHandle | undefined;
  try {
    makeFolders(dirname(path));
    handle = await open(temporary, "wx");
    await removeAbandoned(path);
    await fill(handle);
    await handle.sync();
    await handle.close();
    await rename(temporary, path);
    const folder = await open(dirname(path), "r");
    await folder.sync().finally(() => folder.close());
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined); // where its folder is a file
    throw ioError("write", target, error);
  } finally {
    release();
  }
}

async function removeAbandoned(path: string): Promise<void> {
  for (const name of await readdir(dirname(path))) {
    const found = abandoned(join(dirname(path), name));
    if (found?.kind === "new" && found.of === basename(path)) await rm(join(dirname(path), name), { force: true });
  }
}
