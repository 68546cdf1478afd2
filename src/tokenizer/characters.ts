import { check } from "../errors.js";
import { bpeModel, type DecodeStream, saveTokenizer, type Tokenizer, tokenizerJson } from "./tokenizer.js";

/** One token per character (Unicode code point) of a given set; the id is the place in it. */
export class CharacterTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId = undefined;
  readonly eosId = undefined;
  readonly padId = undefined;
  readonly prefix = [];
  readonly special: ReadonlyMap<string, number> = new Map();
  private readonly ids: ReadonlyMap<string, number>;

  constructor(private readonly characters: readonly string[]) {
    this.ids = new Map(characters.map((character, id) => [character, id]));
    this.vocabSize = characters.length;
    check(
      this.ids.size === characters.length && characters.length > 0 && characters.every((c) => [...c].length === 1),
      "ERR_SWITCHYARD_USAGE",
      () => `character tokenizer: expected distinct single characters, got ${characters.length}`,
    );
  }

  /** Throws ERR_SWITCHYARD_DATA for a character that is not in the vocabulary. */
  encode(text: string): Int32Array {
    const ids = new Int32Array(text.length);
    let length = 0;
    for (const character of text) {
      const id = this.ids.get(character);
      check(
        id !== undefined,
        "ERR_SWITCHYARD_DATA",
        () => `encode: the character ${JSON.stringify(character)} is not among the ${this.vocabSize} of this tokenizer; use the characters of its training text, or a byte tokenizer`,
      );
      ids[length++] = id;
    }
    return ids.slice(0, length);
  }

  decode(ids: ArrayLike<number>): string {
    return Array.from(ids, (id) => this.characters[id] ?? "").join("");
  }

  decodeStream(): DecodeStream {
    return { push: (id) => this.decode([id]), end: () => "" };
  }

  /** The tokenizer.json: BPE that has nothing to merge keeps the characters of the whole text apart. */
  toJSON(): Record<string, unknown> {
    return tokenizerJson([], { pre_tokenizer: null, decoder: { type: "Fuse" }, model: bpeModel(Object.fromEntries(this.ids), []) });
  }

  save(folder: string): void {
    saveTokenizer(folder, this, {});
  }
}

/** The distinct characters of the texts, in the order of their code points. */
export function characterTokenizer(texts: Iterable<string>): CharacterTokenizer {
  const characters = new Set<string>();
  for (const text of texts) for (const character of text) characters.add(character);
  const known = [...characters].filter((c) => !/\p{Surrogate}/u.test(c));
  check(known.length > 0, "ERR_SWITCHYARD_DATA", () => "character tokenizer: the text is empty");
  return new CharacterTokenizer(known.sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number)));
}
