import { SwitchyardError } from "../errors.js";
import { readFileUpTo } from "../formats/io.js";
import { byteCharacters, ByteLevelTokenizer } from "./byte-level.js";
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
  bos?: string | undefined;
  /** The special token that ends a text. */
  eos?: string | undefined;
}

/** Larger than the largest published file (4 MB). */
const maxTiktokenBytes = 2 ** 26;

/** A file of lines "base64 of a token's bytes, space, rank". Throws ERR_SWITCHYARD_FORMAT naming the line, or ERR_SWITCHYARD_IO. */
export function readTiktoken(path: string, options: TiktokenOptions): Tokenizer {
  return parseTiktoken(readFileUpTo(path, maxTiktokenBytes).toString("latin1"), path, options);
}

/** As `readTiktoken`, of a file's text in Latin-1, which errors call `source`. */
export function parseTiktoken(text: string, source: string, { pre, special, bos, eos }: TiktokenOptions): Tokenizer {
  const tokens: string[] = [];
  const fail = (line: number, message: string): never => {
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `${source}: line ${line}: ${message}`);
  };
  const set = (id: number, token: string, line: number, limit: number) => {
    if (!Number.isInteger(id) || id < 0 || id >= limit || tokens[id] !== undefined) fail(line, `expected a rank below ${limit} that is not taken, got ${id}`);
    tokens[id] = token;
  };
  const lines = text.split(/\r?\n/);
  // Ranks have few gaps: a short file must not ask for a long vocabulary.
  const limit = Math.min(maxVocab, 2 * lines.length + 256);
  for (const [i, line] of lines.entries()) {
    if (line === "") continue;
    const [, base64 = "", rank = ""] = /^([A-Za-z0-9+/]+={0,2}) (\d+)$/.exec(line) ?? fail(i + 1, "expected base64, a space and a rank");
    set(Number(rank), Array.from(Buffer.from(base64, "base64"), (byte) => byteCharacters[byte]).join(""), i + 1, limit);
  }
  const idOf = (name: string | undefined) => (name === undefined ? undefined : special[name]);
  for (const [token, id] of Object.entries(special)) set(id, token, lines.length, maxVocab);
  const control = new Set(Object.values(special));
  const types = Array.from(tokens, (token, id) => (token === undefined ? 5 : control.has(id) ? 3 : 1));
  const bosId = idOf(bos);
  return new ByteLevelTokenizer({
    tokens: Array.from(tokens, (token) => token ?? ""), types, bosId, eosId: idOf(eos), prefix: bosId === undefined ? [] : [bosId], source, preTokenizer: preTokenizer(pre, source),
  });
}
