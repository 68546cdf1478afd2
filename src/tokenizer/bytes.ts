import { BytePairTokenizer } from "./byte-pair.js";

/** The 256 bytes of UTF-8 as tokens, each its own id: nothing to train, nothing it cannot say. */
export function byteTokenizer(): BytePairTokenizer {
  return new BytePairTokenizer([]);
}
