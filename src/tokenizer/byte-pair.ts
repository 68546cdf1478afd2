import { check } from "../errors.js";
import { byteCharacters, ByteLevelTokenizer } from "./byte-level.js";
import { IdList } from "./merge.js";
import { preTokenizer } from "./pre-tokenizers.js";

/** Words as GPT-2 cuts them (Radford et al. 2019); no token crosses their borders. */
const words = preTokenizer("gpt-2", "tokenizer");
export const [wordPattern] = words.patterns as [RegExp];

/** The bytes, then each string of bytes that merges make, once: "ab" + "c" and "a" + "bc" make the same. Undefined for a merge of what is no token before it. */
export function bytePairTokens(merges: readonly string[]): string[] | undefined {
  const tokens = new Set(byteCharacters);
  for (const merge of merges) {
    const [left = "", right = "", ...rest] = merge.split(" ");
    if (!tokens.has(left) || !tokens.has(right) || rest.length > 0) return undefined;
    tokens.add(left + right);
  }
  return [...tokens];
}

/**
 * Byte-level BPE of our own: ids 0 to 255 are the bytes, then one id per merge that makes a new string of bytes, then `endOfText`.
 * Without merges every byte is a token. `merges` are pairs "a b" in `byteCharacters`, the first applied first (Sennrich et al. 2016).
 */
export class BytePairTokenizer extends ByteLevelTokenizer {
  /** Throws ERR_SWITCHYARD_FORMAT. */
  constructor(
    private readonly merges: readonly string[],
    endOfText?: string,
  ) {
    const tokens = bytePairTokens(merges);
    check(tokens !== undefined, "ERR_SWITCHYARD_FORMAT", () => "tokenizer: expected merges of the bytes and of what merges before made");
    const [end, eosId] = endOfText === undefined ? [[], undefined] : [[endOfText], tokens.length];
    const types = [...tokens.map(() => 1), ...end.map(() => 3)]; // normal ones, and a control token
    super({ tokens: [...tokens, ...end], types, eosId, prefix: [], source: "tokenizer", merges, preTokenizer: words });
  }

  override encode(text: string): Int32Array {
    if (this.merges.length === 0) return Int32Array.from(this.encoder.encode(text));
    const ids = new IdList();
    for (const [word] of text.matchAll(wordPattern)) ids.push(this.word(word));
    return ids.all();
  }
}
