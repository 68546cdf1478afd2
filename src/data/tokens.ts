import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { check, SwitchyardError } from "../errors.js";
import { withIoErrors } from "../formats/io.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** A token stream: documents one after another. */
export type Tokens = Uint16Array | Int32Array;

/** Larger single files are refused: a JavaScript string cannot hold them. */
const maxFileBytes = 2 ** 28;
/** Bytes looked at to tell text from binary. */
const sniffBytes = 8192;

/** Every file below `path`, or `path` itself, in an order that depends on names alone. Hidden files and symbolic links inside folders are passed over. */
function textFiles(path: string): string[] {
  const stats = withIoErrors("read", path, () => statSync(path, { throwIfNoEntry: false }));
  if (stats === undefined) throw new SwitchyardError("ERR_SWITCHYARD_DATA", `data: ${path} does not exist; check the path`);
  if (!stats.isDirectory()) {
    // A pipe or a device might never end.
    check(stats.isFile(), "ERR_SWITCHYARD_DATA", () => `data: ${path} is neither a file nor a folder; give text files`);
    return [path];
  }
  return withIoErrors("read", path, () => readdirSync(path))
    .filter((name) => !name.startsWith("."))
    .sort()
    .flatMap((name) => {
      const child = join(path, name);
      const { isLink, isFile, isFolder } = kindOf(child);
      return isLink ? [] : isFolder ? textFiles(child) : isFile ? [child] : [];
    });
}

function kindOf(path: string): { isLink: boolean; isFile: boolean; isFolder: boolean } {
  const stats = lstatSync(path);
  return { isLink: stats.isSymbolicLink(), isFile: stats.isFile(), isFolder: stats.isDirectory() };
}

/** The text of a file, or why it is none. Throws ERR_SWITCHYARD_DATA for a text that is too large. */
function readText(path: string): { text: string } | { fault: string } {
  return withIoErrors("read", path, () => {
    if (beginning(path).includes(0)) return { fault: "is not text (it contains zero bytes); give text files" };
    const { size } = statSync(path);
    check(size <= maxFileBytes, "ERR_SWITCHYARD_DATA", () => `data: ${path} has ${size} bytes; split it into files of at most ${maxFileBytes}`);
    const bytes = readFileSync(path);
    try {
      return { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
    } catch {
      return { fault: "is not valid UTF-8; convert it first" };
    }
  });
}

function beginning(path: string): Uint8Array {
  const file = openSync(path, "r");
  try {
    const bytes = new Uint8Array(sniffBytes);
    return bytes.subarray(0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}

/**
 * The texts of files and folders. In a folder files that are not text are passed over; a file named by hand must be text.
 * Throws ERR_SWITCHYARD_USAGE without a path, ERR_SWITCHYARD_DATA when one is missing, a text is too large, or nothing is left.
 */
export function readTexts(paths: readonly string[]): { path: string; text: string }[] {
  check(paths.length > 0 && !paths.includes(""), "ERR_SWITCHYARD_USAGE", () => `data: ${paths.length === 0 ? "no paths" : "an empty path"}; name text files or folders`);
  const texts = paths.flatMap((path) => {
    const files = textFiles(path);
    const named = files.length === 1 && files[0] === path;
    return files.flatMap((file) => {
      const read = readText(file);
      if ("fault" in read) {
        check(!named, "ERR_SWITCHYARD_DATA", () => `data: ${file} ${read.fault}`);
        return [];
      }
      check(read.text !== "" || !named, "ERR_SWITCHYARD_DATA", () => `data: no text in ${file}; the file is empty`);
      return [{ path: file, text: read.text }];
    });
  });
  check(texts.some(({ text }) => text.length > 0), "ERR_SWITCHYARD_DATA", () => `data: no text in ${paths.join(", ")}; the files are empty or not text`);
  return texts;
}

/** The tokens of files and folders, documents separated by the tokenizer's end-of-text token where it has one. */
export function loadTokens(paths: readonly string[], tokenizer: Tokenizer): Tokens {
  const parts = readTexts(paths).filter(({ text }) => text.length > 0).map(({ text }) => tokenizer.encode(text));
  const end = tokenizer.eosId === undefined || parts.length < 2 ? [] : [tokenizer.eosId];
  const length = parts.reduce((sum, part) => sum + part.length + end.length, 0);
  const tokens = tokenizer.vocabSize <= 2 ** 16 ? new Uint16Array(length) : new Int32Array(length);
  let at = 0;
  for (const part of parts) {
    tokens.set(part, at);
    tokens.set(end, at + part.length);
    at += part.length + end.length;
  }
  return tokens;
}

/** The last `fraction` of the stream is for validation. */
export function splitTokens(tokens: Tokens, fraction: number): { training: Tokens; validation: Tokens } {
  const cut = Math.floor(tokens.length * (1 - fraction));
  return { training: tokens.subarray(0, cut), validation: tokens.subarray(cut) };
}
