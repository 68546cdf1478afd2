import type { Random } from "../../src/tensor/random.js";
import { byteCharacters } from "../../src/tokenizer/byte-level.js";
import { parseTiktoken } from "../../src/tokenizer/tiktoken.js";
import { chance, edge, mutateBytes, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

const alphabet = Buffer.from("ABab01+/= \r\n-.eE");

function file(random: Random): string {
  const words = ["a", "b", "c", "ab", "abc", " a", "\n", "\u00e9", "<s>"].filter(() => chance(random, 0.8));
  const whole = chance(random, 0.03) ? byteCharacters.map((_, byte) => Buffer.of(byte)) : [];
  const lines = [...whole, ...words.map((word) => Buffer.from(word))].map((bytes, rank) => `${bytes.toString("base64")} ${chance(random, 0.01) ? edge(random) : rank}`);
  const text = `${lines.join(chance(random, 0.1) ? "\r\n" : "\n")}${chance(random, 0.5) ? "\n" : ""}`;
  return chance(random, 0.6) ? Buffer.from(mutateBytes(Buffer.from(text, "latin1"), random, alphabet)).toString("latin1") : text;
}

const texts = ["", "a", "abc ab", "\u00e9 <s>\n", "aaaaaaaaaaaaaaaa"];

export const tiktoken: Target = {
  about: "tiktoken files, ranks and bytes changed; those accepted encode and decode texts",
  run(random) {
    const special = { "<s>": chance(random, 0.2) ? random.below(12) : 300 };
    const options = { pre: pick(random, ["qwen2", "llama4", "kimi-k2"]), special, bos: "<s>" };
    const tokenizer = accepted(() => parseTiktoken(file(random), "x.tiktoken", options), ["ERR_SWITCHYARD_FORMAT"], "x.tiktoken: ");
    if (tokenizer === undefined) return false;
    const text = pick(random, texts);
    const ids = accepted(() => tokenizer.encode(text), ["ERR_SWITCHYARD_DATA"], "encode: ");
    if (ids === undefined) return true;
    ensure(ids.every((id) => id >= 0 && id < tokenizer.vocabSize && id !== special["<s>"]), "ids are ordinary tokens of the vocabulary");
    ensure(tokenizer.decode(ids) === text, "a text is what its tokens say");
    return true;
  },
};
