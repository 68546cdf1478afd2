import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { z } from "zod";
import { check } from "../errors.js";
import { ioError, makeFolders, withIoErrors } from "./io.js";
import { conform, readJsonFile } from "./json.js";
import { abandoned, sibling } from "./siblings.js";

const manifestName = "manifest.json";
const manifestSchema = z.object({
  files: z.record(
    z.string().regex(/^(?!\.\.?(\/|$))[^/\\\0]+(\/(?!\.\.?(\/|$))[^/\\\0]+)*$/, "expected a path inside the folder"),
    z.object({ bytes: z.number().int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  ),
});

/** Path inside the folder, with "/" -> size and sha256 of the file. */
type Manifest = z.infer<typeof manifestSchema>["files"];

/**
 * Creates or replaces the folder `target` so that a crash at any moment leaves the old content or the new, never a mixture:
 * `fill` writes into a temporary sibling, every file and folder is synced, `manifest.json` records sizes and sums, and two
 * renames put it in place. Should the process die between the two, the next `writeFolderAtomically` or `verifyFolder` of the same
 * target finishes them. An existing folder is replaced only if a manifest accounts for everything in it. If `fill` throws,
 * nothing is left behind. Throws ERR_SWITCHYARD_IO.
 */
export async function writeFolderAtomically(target: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const path = resolve(target);
  const [{ path: temporary, release: releaseNew }, { path: replaced, release: releaseOld }] = [sibling(path, "new"), sibling(path, "old")];
  const release = () => {
    releaseNew();
    releaseOld();
  };
  try {
    makeFolders(dirname(path));
    await recoverFolder(path);
    await checkReplaceable(path);
    await mkdir(temporary);
    await fill(temporary);
    await sealFolder(temporary);
    const existed = await rename(path, replaced).then(() => true, ignoreMissing);
    await rename(temporary, path);
    await syncFolder(dirname(path));
    if (existed) await rm(replaced, { recursive: true, force: true });
  } catch (error) {
    release();
    await recoverFolder(path).catch(() => undefined);
    throw ioError("write", target, error);
  }
  release();
}

/**
 * Checks a folder against its manifest: every file present and of the right size; with `hashes`, of the right sum too. Returns the
 * manifest, or undefined for a folder without one (a plain download). Throws ERR_SWITCHYARD_CHECKPOINT or ERR_SWITCHYARD_FORMAT.
 */
export async function verifyFolder(folder: string, options: { hashes?: boolean } = {}): Promise<Manifest | undefined> {
  const path = resolve(folder);
  if (!(await exists(path))) await recoverFolder(path);
  const isFolder = await stat(path).then((s) => s.isDirectory(), () => undefined);
  check(isFolder === true, "ERR_SWITCHYARD_CHECKPOINT", () => `${folder}: expected the folder of a model, or a .gguf file, ${isFolder === false ? "got another file; name the folder that it is in" : "found neither; check the path (nothing is downloaded)"}`);
  if (!(await exists(join(path, manifestName)))) return undefined;
  const manifest = readManifest(path);
  for (const [name, { bytes, sha256 }] of Object.entries(manifest)) {
    const file = join(path, name);
    const size = await stat(file).then((s) => s.size, () => undefined);
    check(size === bytes, "ERR_SWITCHYARD_CHECKPOINT", () => `${file}: expected ${bytes} bytes, ${size === undefined ? "the file is missing" : `got ${size}`}; ${advice}`);
    if (options.hashes !== true) continue;
    const { sha256: found } = await readThrough(file);
    check(found === sha256, "ERR_SWITCHYARD_CHECKPOINT", () => `${file}: expected sha256 ${sha256}, got ${found}; ${advice}`);
  }
  return manifest;
}

/** Throws ERR_SWITCHYARD_CHECKPOINT for a folder without config.json, naming GGUF files that may be meant, ERR_SWITCHYARD_IO. */
export function checkModelFolder(folder: string): void {
  const names = withIoErrors("read", folder, () => readdirSync(folder));
  const files = names.filter((name) => /\.gguf$/i.test(name)).sort();
  const remedy = files.length === 0 ? "name the folder of a model, or a .gguf file" : `name the file that is meant: ${files.slice(0, 4).map((name) => join(folder, name)).join(", ")}${files.length > 4 ? ", ..." : ""}`;
  check(names.includes("config.json"), "ERR_SWITCHYARD_CHECKPOINT", () => `${folder}: expected a folder with a config.json, which this has not; ${remedy}`);
}

const advice = "the checkpoint is damaged: use another one, or copy it again";

function readManifest(folder: string): Manifest {
  const path = join(folder, manifestName);
  return conform(manifestSchema, readJsonFile(path), path).files;
}

/** Syncs every file and folder below `folder` and writes its manifest. */
async function sealFolder(folder: string): Promise<void> {
  const manifest: Manifest = {};
  for (const name of await filesBelow(folder)) manifest[name] = await readThrough(join(folder, name), true);
  const path = join(folder, manifestName);
  await writeFile(path, `${JSON.stringify({ files: manifest }, null, 2)}\n`, { flag: "wx" });
  await readThrough(path, true);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries) if (entry.isDirectory()) await syncFolder(join(entry.parentPath, entry.name));
  await syncFolder(folder);
}

/** Size and sum of a file, which is synced to the disk if `sync` is set. */
async function readThrough(path: string, sync = false): Promise<Manifest[string]> {
  const handle = await open(path, sync ? "r+" : "r");
  try {
    if (sync) await handle.sync();
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of handle.createReadStream({ autoClose: false, highWaterMark: 2 ** 20 })) {
      hash.update(chunk as Uint8Array);
      bytes += (chunk as Uint8Array).length;
    }
    return { bytes, sha256: hash.digest("hex") };
  } finally {
    await handle.close();
  }
}

/** Renames and new names are on the disk only when their folder is. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Paths of the files below `folder`, with "/", sorted. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  return files.map((file) => file.slice(folder.length + 1).replaceAll("\\", "/")).toSorted();
}

/** Throws if replacing `path` would lose something that no manifest accounts for: a wrong --out must not cost anybody their files. */
async function checkReplaceable(path: string): Promise<void> {
  if (!(await exists(path))) return;
  const known = (await exists(join(path, manifestName))) ? new Set([manifestName, ...Object.keys(readManifest(path))]) : new Set<string>();
  const foreign = (await filesBelow(path)).find((name) => !known.has(name));
  check(
    foreign === undefined,
    "ERR_SWITCHYARD_IO",
    () => `write ${path}: it exists and holds ${JSON.stringify(foreign)}, which is in no manifest of Switchyard; name another folder, or move it away`,
  );
}

/**
 * Finishes or undoes what a dead writer of `path` left: if `path` is missing, a complete new folder, or else the old one, takes its
 * place; the rest is removed.
 */
async function recoverFolder(path: string): Promise<void> {
  const names = await readdir(dirname(path)).catch(() => []);
  // "new" sorts before "old".
  for (const name of names.toSorted()) {
    const leftover = join(dirname(path), name);
    const found = abandoned(leftover);
    if (found?.of !== basename(path)) continue;
    if (!(await exists(path)) && (found.kind === "old" || (await isComplete(leftover)))) {
      await rename(leftover, path);
      await syncFolder(dirname(path));
    } else await rm(leftover, { recursive: true, force: true });
  }
}

/** Paths of the new folders in `parent` whose writers died before they were in place. Throws as node:fs does. */
export function abandonedFolders(parent: string): string[] {
  return readdirSync(parent)
    .map((name) => resolve(parent, name))
    .filter((path) => abandoned(path)?.kind === "new");
}

async function isComplete(folder: string): Promise<boolean> {
  return verifyFolder(folder, { hashes: true }).then((manifest) => manifest !== undefined, () => false);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}

function ignoreMissing(error: NodeJS.ErrnoException): boolean {
  if (error.code === "ENOENT") return false;
  throw error;
}
