import { existsSync } from "node:fs";
import { join } from "node:path";
import { readTexts } from "../data/index.js";
import { check } from "../errors.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { characterTokenizer } from "../tokenizer/characters.js";
import { loadTokenizer } from "../tokenizer/load.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { trainBytePairTokenizer } from "../tokenizer/train-byte-pair.js";

/** bytes, chars, bpe (both made from the data), or the one of a folder. Throws ERR_SWITCHYARD_USAGE, ERR_SWITCHYARD_DATA. */
export function makeTokenizer(kind: string, data: readonly string[], vocab: number): Tokenizer {
  const texts = () => readTexts(data).map(({ text }) => text);
  if (kind === "bytes") return byteTokenizer();
  if (kind === "chars") return characterTokenizer(texts());
  if (kind === "bpe") return trainBytePairTokenizer(texts(), { vocab });
  const loaded = existsSync(join(kind, "tokenizer.json")) ? loadTokenizer(kind) : undefined;
  check(loaded !== undefined, "ERR_SWITCHYARD_USAGE", () => `train: --tokenizer: expected bytes, chars, bpe or a folder with a tokenizer.json, got "${kind}"`);
  return loaded;
}
