import { readFileSync } from "node:fs";
import { SwitchyardError } from "../errors.js";
import { withIoErrors } from "../formats/io.js";
import { ByteLevelTokenizer } from "./byte-level.js";
import { byteCharacters } from "./byte-pair.js";
import { maxVocab } from "./merge.js";
import { preTokenizer } from "./pre-tokenizers.js";
import type { Tokenizer } from "./tokenizer.js";

/** What a tiktoken file does not say. */
export interface TiktokenOptions {
  /** How words are cut: a name of `tokenizer.ggml.pre`, as "qwen2" or "llama4". */
  pre: string;
  /** Special tokens: text -> id. */
  special: Readonly<Record<string, number>>;
  /** The special token that begins every text. */
  bos?: string;
  /** The special token that ends a text. */
  eos?: string;
}

/** A file of lines "base64 of a token's bytes, space, rank". Throws ERR_SWITCHYARD_FORMAT naming the line, or ERR_SWITCHYARD_IO. */
export function readTiktoken(path: string, { pre, special, bos, eos }: TiktokenOptions): Tokenizer {
  const tokens: string[] = [];
  const fail = (line: number, message: string): never => {
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${path}: line ${line}: ${message}`);
  };
  const set = (id: number, text: string, line: number) => {
    if (!Number.isInteger(id) || id < 0 || id >= maxVocab || tokens[id] !== undefined) fail(line, `expected a rank below ${maxVocab} that is not taken, got ${id}`);
    tokens[id] = text;
  };
  const lines = withIoErrors("read", path, () => readFileSync(path, "latin1")).split(/\r?\n/);
  for (const [i, line] of lines.entries()) {
    if (line === "") continue;
    const [, base64 = "", rank = ""] = /^([A-Za-z0-9+/]+={0,2}) (\d+)$/.exec(line) ?? fail(i + 1, "expected base64, a space and a rank");
    set(Number(rank), Array.from(Buffer.from(base64, "base64"), (byte) => byteCharacters[byte]).join(""), i + 1);
  }
  const idOf = (name: string | undefined) => (name === undefined ? undefined : special[name]);
  for (const [text, id] of Object.entries(special)) set(id, text, lines.length);
  const control = new Set(Object.values(special));
  const types = Array.from(tokens, (text, id) => (text === undefined ? 5 : control.has(id) ? 3 : 1));
  const bosId = idOf(bos);
  return new ByteLevelTokenizer({
    tokens: Array.from(tokens, (text) => text ?? ""), types, bosId, eosId: idOf(eos), prefix: bosId === undefined ? [] : [bosId], source: path, preTokenizer: preTokenizer(pre, path),
  });
}
