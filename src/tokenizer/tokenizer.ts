import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { withIoErrors } from "../formats/io.js";

/** Name -> Jinja source. */
export type ChatTemplates = Readonly<Record<string, string>>;

/** Text to token ids and back. */
export interface Tokenizer {
  /** V: one more than the highest id. */
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  /** End of text: stands between documents and ends a generation. */
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  /** Ids that the model expects before every text, as a beginning-of-sequence token. */
  readonly prefix: readonly number[];
  /** Special tokens: text -> id. */
  readonly special: ReadonlyMap<string, number>;
  /** Special tokens that take the white space beside them away from a text. */
  readonly strips?: ReadonlyMap<string, { left: boolean; right: boolean }>;
  /** Ids that end an answer beside `eosId`: the end of a turn. */
  endIds?: readonly number[] | undefined;
  /** Jinja templates that make a prompt of a chat; the usual one is "default". */
  chatTemplates?: ChatTemplates | undefined;
  /**
   * The ids of `text` alone. Whatever it says, none of them is a special token. `continued`: it comes after a special token, where
   * some tokenizers do not put the space that begins a text. Throws ERR_SWITCHYARD_DATA.
   */
  encode(text: string, options?: { continued?: boolean }): Int32Array;
  /** Text of the ids; special tokens and ids beyond the vocabulary give nothing, bytes that are no UTF-8 give U+FFFD. */
  decode(ids: ArrayLike<number>): string;
  decodeStream(): DecodeStream;
  /** The tokenizer.json. */
  toJSON(): Record<string, unknown>;
  /** Writes `tokenizer.json` and `tokenizer_config.json`, as Hugging Face's libraries read them. Throws ERR_SWITCHYARD_IO. */
  save(folder: string): void;
}

/** Text as its tokens come, never half a character. The pieces joined are what `decode` gives for all the ids. */
export interface DecodeStream {
  /** What `id` completes, perhaps nothing. */
  push(id: number): string;
  /** What is left of a character that never was completed. */
  end(): string;
}

/** What a stream makes of all of the ids. */
export const textOf = (stream: DecodeStream, ids: ArrayLike<number>): string => Array.from(ids, (id) => stream.push(id)).join("") + stream.end();

/** A stream over tokens that are bytes of UTF-8; `bytesOf` gives undefined for what has no text. */
export function byteStream(bytesOf: (id: number) => Uint8Array | undefined): DecodeStream {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return { push: (id) => decoder.decode(bytesOf(id) ?? new Uint8Array(), { stream: true }), end: () => decoder.decode() };
}

/** Some files call the marks of turns ordinary tokens (DeepSeek-V3: "<|User|>", with U+FF5C); whoever could write them could speak for another. */
export const looksSpecial = (token: string): boolean => /^<[|\uff5c].*[|\uff5c]>$/su.test(token);

/** The fields that every tokenizer.json of ours shares. */
export function tokenizerJson(addedTokens: readonly { id: number; content: string; special: boolean }[], rest: Record<string, unknown>): Record<string, unknown> {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens.map(({ id, content, special }) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special })),
    normalizer: null,
    post_processor: null,
    ...rest,
  };
}

/** The `model` of a tokenizer.json whose tokens are the keys of `vocab`. */
export function bpeModel(vocab: Record<string, number>, merges: readonly string[]): Record<string, unknown> {
  return {
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab,
    merges,
  };
}

/** Writes the files; `special` are fields of tokenizer_config.json, as `eos_token`. Several chat templates stand there too, one alone in its own file. */
export function saveTokenizer(folder: string, json: unknown, special: Readonly<Record<string, string>>, chatTemplates: ChatTemplates = {}): void {
  const { default: usual, ...others } = chatTemplates;
  const alone = usual !== undefined && Object.keys(others).length === 0;
  const list = Object.entries(chatTemplates).map(([name, template]) => ({ name, template }));
  const config = { tokenizer_class: "PreTrainedTokenizerFast", clean_up_tokenization_spaces: false, ...special, ...(alone || list.length === 0 ? {} : { chat_template: list }) };
  const files = { "tokenizer.json": `${JSON.stringify(json, null, 2)}\n`, "tokenizer_config.json": `${JSON.stringify(config, null, 2)}\n`, ...(alone ? { "chat_template.jinja": usual } : {}) };
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    withIoErrors("write", path, () => writeFileSync(path, text));
  }
}
