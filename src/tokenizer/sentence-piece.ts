import { check } from "../errors.js";
import { IdList, mergePairs, type Merges } from "./merge.js";
import { bpeModel, type DecodeStream } from "./tokenizer.js";
import { type VocabularyOptions, VocabularyTokenizer } from "./vocabulary.js";

interface SentencePieceOptions extends VocabularyOptions {
  /** Of each token; the pair that makes the token of the highest score is merged first. */
  scores: ArrayLike<number>;
  unknownId: number;
  /** Texts begin with a space that they do not have. */
  spacePrefix: boolean;
}

/** What stands for a space in the vocabulary: U+2581. */
export const spaceMark = "\u2581";

/** Tokens that stand for a byte: "<0x00>" to "<0xFF>". */
const byteTokens = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);

/** SentencePiece's BPE (Kudo and Richardson 2018), as Llama 2 and Mixtral use it: whole texts without words, bytes where no token fits. */
export class SentencePieceTokenizer extends VocabularyTokenizer {
  private readonly merges: Merges;
  private readonly byteIds: Int32Array;
  /** Texts of ids: of tokens, and beyond these of characters that are no token but occur in one. */
  private readonly texts: string[];
  private readonly characterIds: ReadonlyMap<string, number>;

  /** Throws ERR_SWITCHYARD_FORMAT. */
  constructor(private readonly options: SentencePieceOptions) {
    super(options);
    const { tokens, scores, source, unknownId } = options;
    check(scores.length === tokens.length, "ERR_SWITCHYARD_FORMAT", () => `${source}: scores: expected as many as the ${tokens.length} tokens, got ${scores.length}`);
    check(unknownId < tokens.length, "ERR_SWITCHYARD_FORMAT", () => `${source}: unknown token id: expected one below ${tokens.length}, got ${unknownId}`);
    const falling = [...new Set(Array.from(scores))].sort((a, b) => b - a);
    const rankOfScore = new Map(falling.map((score, rank) => [score, rank]));
    // No text becomes "<0x0A>" by merges.
    const ranks = Int32Array.from(scores, (score, id) => (this.kind(id) === "byte" ? -1 : (rankOfScore.get(score) ?? -1)));
    this.texts = [...tokens];
    this.merges = {
      find: (a, b) => {
        const token = a < 0 || b < 0 ? undefined : this.ids.get(`${this.texts[a]}${this.texts[b]}`);
        return token === undefined || ranks[token] < 0 ? undefined : token;
      },
      rank: (token) => ranks[token],
      token: (token) => token,
    };
    this.byteIds = Int32Array.from(byteTokens, (token) => this.ids.get(token) ?? -1);
    const characters = new Map<string, number>();
    for (const token of this.ids.keys()) {
      for (const character of token) if (!characters.has(character)) characters.set(character, this.ids.get(character) ?? this.texts.push(character) - 1);
    }
    this.characterIds = characters;
  }

  encode(text: string): Int32Array {
    if (text === "") return new Int32Array();
    const ids = new IdList();
    const marked = `${this.options.spacePrefix ? " " : ""}${text}`.replaceAll(" ", spaceMark);
    const part = (piece: string) => {
      const characters = [...piece];
      const symbols = mergePairs(Int32Array.from(characters, (character) => this.characterIds.get(character) ?? -1), this.merges);
      let at = 0;
      for (const symbol of symbols) {
        ids.push(symbol >= 0 && symbol < this.vocabSize ? [symbol] : this.unknown(characters[at] as string));
        at += symbol < 0 ? 1 : [...(this.texts[symbol] as string)].length;
      }
    };
    this.partition(marked, part, (id) => ids.push([id]));
    return ids.all();
  }

  /** A character that is no token: its bytes, or the unknown token. */
  private unknown(character: string): number[] {
    const ids = Array.from(this.encoder.encode(character), (byte) => this.byteIds[byte]);
    return ids.includes(-1) ? [this.options.unknownId] : ids;
  }

  protected bytes(id: number, token: string): Uint8Array {
    const byte = this.kind(id) === "byte" ? this.byteIds.indexOf(id) : -1;
    return byte < 0 ? this.userDefinedBytes(token) : Uint8Array.of(byte);
  }

  protected override userDefinedBytes(token: string): Uint8Array {
    return this.encoder.encode(token.replaceAll(spaceMark, " "));
  }

  /** The space before the first word is not the text's own. */
  override decodeStream(): DecodeStream {
    const stream = super.decodeStream();
    let started = !this.options.spacePrefix;
    const strip = (text: string) => {
      if (started || text === "") return text;
      started = true;
      return text.startsWith(" ") ? text.slice(1) : text;
    };
    return { push: (id) => strip(stream.push(id)), end: () => strip(stream.end()) };
  }

  protected json(vocab: Record<string, number>): Record<string, unknown> {
    const { spacePrefix, unknownId } = this.options;
    const replace = { type: "Replace", pattern: { String: " " }, content: spaceMark };
    const restore = { type: "Replace", pattern: { String: spaceMark }, content: " " };
    const model = bpeModel({ ...vocab, [this.token(unknownId)]: unknownId }, this.mergeList());
    return {
      normalizer: { type: "Sequence", normalizers: spacePrefix ? [{ type: "Prepend", prepend: spaceMark }, replace] : [replace] },
      pre_tokenizer: null,
      decoder: { type: "Sequence", decoders: [restore, { type: "ByteFallback" }, { type: "Fuse" }, ...(spacePrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : [])] },
      model: { ...model, unk_token: this.token(unknownId), fuse_unk: true, byte_fallback: true },
    };
  }

  /** Every pair of tokens that makes a third, in the order in which they are merged. */
  private mergeList(): string[] {
    const pairs = [...this.ids].flatMap(([token, id]) => {
      if (this.kind(id) === "byte") return [];
      const starts = [...token].slice(0, -1).map((_, i, all) => all.slice(0, i + 1).join(""));
      return starts.filter((left) => this.ids.has(left) && this.ids.has(token.slice(left.length))).map((left) => ({ id, left, right: token.slice(left.length) }));
    });
    return pairs.sort((a, b) => this.merges.rank(a.id) - this.merges.rank(b.id) || a.id - b.id).map(({ left, right }) => `${left} ${right}`);
  }
}
