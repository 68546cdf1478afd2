import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { check, type ErrorCode, SwitchyardError } from "../errors.js";

/** What a person can do about an error code of the operating system. */
const remedies: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full: free some space or write elsewhere",
  EDQUOT: "the disk quota is used up: free some space or write elsewhere",
  EFBIG: "the file system or a limit forbids files of this size: write elsewhere",
  EACCES: "permission denied: check who owns the path and its access rights",
  EPERM: "the system forbids it: check who owns the path and its access rights",
  EROFS: "the file system is read-only: write elsewhere",
  ENOENT: "it does not exist: check the path",
  ENOTDIR: "a part of the path is not a folder: check the path",
  EEXIST: "a file of that name is in the way: name another path, or move it",
  EISDIR: "it is a folder: name a file",
  ELOOP: "its symbolic links go in a circle: repair them",
  EMFILE: "too many files are open: raise the limit (ulimit -n)",
  EIO: "the disk reports a fault: check it",
};

/** `error` itself, or an ERR_SWITCHYARD_IO made of an error of the operating system: operation, path, reason and remedy. */
export function ioError(operation: string, path: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (error instanceof SwitchyardError || typeof code !== "string" || !/^E[A-Z0-9]+$/.test(code)) return error;
  const remedy = remedies[code] ?? (error as Error).message;
  return new SwitchyardError("ERR_SWITCHYARD_IO", `${operation} ${path}: ${code}, ${remedy}`, { cause: error, details: { path, code } });
}

/** Runs `action`, turning errors of the operating system into ERR_SWITCHYARD_IO. */
export function withIoErrors<T>(operation: string, path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw ioError(operation, path, error);
  }
}

/** The bytes of a file. Throws an error of `code` for what is no file, which could have no end, and for one of more than `maxBytes`. */
export function readFileUpTo(path: string, maxBytes: number, code: ErrorCode = "ERR_SWITCHYARD_FORMAT"): Buffer<ArrayBuffer> {
  return withIoErrors("read", path, () => {
    const stat = statSync(path);
    const isFile = stat.isFile();
    check(isFile && stat.size <= maxBytes, code, () => `${path}: expected a file of at most ${maxBytes} bytes, got ${isFile ? stat.size : "something that is not a file"}`);
    return readFileSync(path);
  });
}

/** Makes a folder and those above it, where they are missing. (mkdir's own `recursive` never ends in /proc, which takes no folders and says ENOENT.) Throws as node:fs does. */
export function makeFolders(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  const parent = dirname(path);
  if (!existsSync(parent)) makeFolders(parent);
  mkdirSync(path);
}
