import { checker } from "../errors.js";
import { maxVocab } from "./merge.js";
import { byteStream, type ChatTemplates, type DecodeStream, looksSpecial, saveTokenizer, textOf, type Tokenizer, tokenizerJson } from "./tokenizer.js";

/** What a token of a GGUF vocabulary is; the place in the list is its number in the file. */
const kinds = ["undefined", "normal", "unknown", "control", "user-defined", "unused", "byte"] as const;
type TokenKind = (typeof kinds)[number];

export interface VocabularyOptions extends Partial<Pick<Tokenizer, "bosId" | "eosId" | "padId" | "endIds">>, Pick<Tokenizer, "prefix"> {
  /** Text of each token: GPT-2's byte characters, or U+2581 for spaces, as the kind of tokenizer has it. */
  tokens: readonly string[];
  /** Numbers of `tokenizer.ggml.token_type`; default: all normal. */
  types?: ArrayLike<number> | undefined;
  /** What errors call the file. */
  source: string;
}

/** What byte-level and SentencePiece tokenizers of published vocabularies share. */
export abstract class VocabularyTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  readonly prefix: readonly number[];
  readonly special: ReadonlyMap<string, number>;
  readonly endIds: readonly number[];
  chatTemplates: ChatTemplates | undefined;
  /** Ids of the tokens that text is made of. */
  protected readonly ids: ReadonlyMap<string, number>;
  /** Tokens that are found in a text before anything else. */
  private readonly userDefined: ReadonlyMap<string, number>;
  private readonly userDefinedPattern: RegExp | undefined;
  protected readonly encoder = new TextEncoder();

  /** Throws ERR_SWITCHYARD_FORMAT. */
  constructor(protected readonly vocabulary: VocabularyOptions) {
    const { tokens, types, source, bosId, eosId, padId, endIds = [], prefix } = vocabulary;
    const require = checker("ERR_SWITCHYARD_FORMAT", source);
    require(tokens.length > 0 && tokens.length <= maxVocab, () => `tokens: expected 1 to ${maxVocab}, got ${tokens.length}`);
    require(types === undefined || types.length === tokens.length, () => `token types: expected as many as the ${tokens.length} tokens, got ${types?.length}`);
    for (const [name, id] of Object.entries({ bos: bosId, eos: eosId, padding: padId, "end of turn": endIds.find((end) => end >= tokens.length) })) require(id === undefined || id < tokens.length, () => `${name} token id: expected one below ${tokens.length}, got ${id}`);
    this.vocabSize = tokens.length;
    this.bosId = bosId;
    this.eosId = eosId;
    this.padId = padId;
    this.endIds = endIds;
    this.prefix = prefix;
    const [special, ids, userDefined] = [new Map<string, number>(), new Map<string, number>(), new Map<string, number>()];
    for (const [id, token] of tokens.entries()) {
      const kind = this.kind(id);
      require(kind !== undefined, () => `type of token ${id}: expected 0 to ${kinds.length - 1}, got ${types?.[id]}`);
      if (token === "" || kind === "unused" || kind === "undefined") continue;
      // Some files call the end of text a user-defined token; whoever could write it could end the model's turn.
      const isSpecial = kind === "control" || kind === "unknown" || (kind === "user-defined" && (id === bosId || id === eosId || looksSpecial(token)));
      const map = isSpecial ? special : kind === "user-defined" ? userDefined : ids;
      if (!map.has(token)) map.set(token, id);
    }
    this.special = special;
    this.ids = ids;
    this.userDefined = userDefined;
    this.userDefinedPattern = anyOf(userDefined.keys());
  }

  abstract encode(text: string): Int32Array;
  /** UTF-8 of an ordinary token. */
  protected abstract bytes(id: number, token: string): Uint8Array;
  /** What is particular in the tokenizer.json: normalizer, pre_tokenizer, decoder and model. */
  protected abstract json(vocab: Record<string, number>): Record<string, unknown>;

  decode(ids: ArrayLike<number>): string {
    return textOf(this.decodeStream(), ids);
  }

  decodeStream(): DecodeStream {
    return byteStream((id) => {
      const token = this.token(id);
      if (this.userDefined.get(token) === id) return this.userDefinedBytes(token);
      return this.ids.get(token) === id ? this.bytes(id, token) : undefined;
    });
  }

  protected userDefinedBytes(token: string): Uint8Array {
    return this.encoder.encode(token);
  }

  toJSON(): Record<string, unknown> {
    const added = [...this.special.values(), ...this.userDefined.values()].map((id) => ({ id, content: this.token(id), special: this.special.get(this.token(id)) === id }));
    const prefix = this.prefix.map((id) => this.token(id));
    return {
      ...tokenizerJson(added.sort((a, b) => a.id - b.id), this.json(Object.fromEntries(this.ids))),
      post_processor: prefix.length === 0 ? null : {
        type: "TemplateProcessing",
        single: [...prefix.map((id) => ({ SpecialToken: { id, type_id: 0 } })), { Sequence: { id: "A", type_id: 0 } }],
        pair: [...prefix.map((id) => ({ SpecialToken: { id, type_id: 0 } })), { Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
        special_tokens: Object.fromEntries(this.prefix.map((id, i) => [prefix[i], { id: prefix[i], ids: [id], tokens: [prefix[i]] }])),
      },
    };
  }

  save(folder: string): void {
    const { bosId, eosId, padId } = this;
    const named = Object.entries({ bos_token: bosId, eos_token: eosId, pad_token: padId }).flatMap(([name, id]) => (id === undefined ? [] : [[name, this.token(id)]]));
    saveTokenizer(folder, this.toJSON(), Object.fromEntries(named) as Record<string, string>, this.chatTemplates);
  }

  protected kind(id: number): TokenKind | undefined {
    const { tokens, types } = this.vocabulary;
    return id < 0 || id >= tokens.length ? undefined : kinds[types?.[id] ?? 1];
  }

  protected token(id: number): string {
    return this.vocabulary.tokens[id] ?? "";
  }

  /** Calls `part` for what stands between user-defined tokens, and `token` for those. */
  protected partition(text: string, part: (text: string) => void, token: (id: number) => void): void {
    let end = 0;
    for (const { index, 0: match } of this.userDefinedPattern === undefined ? [] : text.matchAll(this.userDefinedPattern)) {
      if (index > end) part(text.slice(end, index));
      token(this.userDefined.get(match) as number);
      end = index + match.length;
    }
    if (end < text.length) part(text.slice(end));
  }
}

/** A pattern of any of the texts, the longest first; undefined if there are none. */
export function anyOf(texts: Iterable<string>): RegExp | undefined {
  const escaped = [...texts].sort((a, b) => b.length - a.length).map((text) => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`));
  return escaped.length === 0 ? undefined : new RegExp(escaped.join("|"), "gu");
}
