import { randomUUID } from "node:crypto";
import { copyFileSync, existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { check, SwitchyardError } from "../errors.js";
import { makeFolders, withIoErrors } from "../formats/io.js";
import { conform, type JsonObject, readJsonFile } from "../formats/json.js";
import { timeoutCode, withTimeLimit } from "./time-limit.js";
import { type ChatTemplates, type DecodeStream, looksSpecial, type Tokenizer } from "./tokenizer.js";
import { tokenizerConfigSchema, tokenizerJsonSchema } from "./tokenizer-json.js";

/** What is used of the library; its own types do not resolve under NodeNext. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  tokenize(text: string, options: { add_special_tokens: boolean }): string[];
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}
const Library = LibraryTokenizer as new (json: object, config: object) => Library;

/** Larger than the largest published tokenizer.json (34 MB). */
export const maxTokenizerBytes = 2 ** 26;

/** Files that make up a tokenizer; copied as they are when it is saved. */
const files = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/** Chat templates beside the usual one, each in a file, as transformers saves them. */
export function namedTemplates(folder: string): string[] {
  const path = join(folder, "additional_chat_templates");
  const names = existsSync(path) ? withIoErrors("read", path, () => readdirSync(path)) : [];
  return names.filter((name) => name.endsWith(".jinja")).map((name) => join("additional_chat_templates", name));
}

/** Stands before a text that does not begin one, for tokenizers that begin texts in another way. No text contains it. */
const before = `\uffff${randomUUID()}`;

/** A published tokenizer.json, run by @huggingface/tokenizers. */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  readonly prefix: readonly number[];
  readonly special: ReadonlyMap<string, number>;
  readonly strips: ReadonlyMap<string, { left: boolean; right: boolean }>;
  endIds: readonly number[] | undefined;
  chatTemplates: ChatTemplates | undefined;
  private readonly library: Library;
  private readonly specialIds: ReadonlySet<number>;
  private readonly unknownId: number | undefined;

  /** Takes the parsed files of `folder`. Throws ERR_SWITCHYARD_FORMAT naming file and field. */
  constructor(
    private readonly folder: string,
    json: JsonObject,
    config: JsonObject,
  ) {
    const file = join(folder, "tokenizer.json");
    const { model, added_tokens: added } = conform(tokenizerJsonSchema, json, file);
    const tokens = conform(tokenizerConfigSchema, config, join(folder, "tokenizer_config.json"));
    const isSpecial = (token: (typeof added)[number]) => token.special || looksSpecial(token.content);
    const special = added.filter(isSpecial);
    this.specialIds = new Set(special.map((token) => token.id));
    const { vocab, unk_token: unknown } = model;
    const highest = (Array.isArray(vocab) ? [vocab.length - 1] : Object.values(vocab)).concat(added.map((token) => token.id));
    this.vocabSize = highest.reduce((max, n) => Math.max(max, n), -1) + 1;
    // The library finds every added token in a text. It does not get the special ones, so no user's text becomes one.
    const plain = { decoder: null, post_processor: null, pre_tokenizer: null, normalizer: null, ...json, added_tokens: [...added.filter((token) => !isSpecial(token)), { id: this.vocabSize, content: before, normalized: false }] };
    this.library = this.limited("read", 10_000, () => new Library(plain, config), true);
    this.special = new Map(special.map((token) => [token.content, token.id]));
    this.strips = new Map(special.filter(({ lstrip, rstrip }) => lstrip || rstrip).map(({ content, lstrip, rstrip }) => [content, { left: lstrip, right: rstrip }]));
    const idOf = (token: string): number | undefined => this.special.get(token) ?? this.library.token_to_id(token);
    const configured = (name: "bos" | "eos" | "pad" | "unk"): number | undefined => {
      const token = tokens[`${name}_token`];
      return token === undefined ? undefined : idOf(token);
    };
    this.bosId = configured("bos");
    this.eosId = configured("eos");
    this.padId = configured("pad");
    this.unknownId = configured("unk") ?? idOf(unknown ?? "");
    this.prefix = this.templatePrefix(idOf);
  }

  /** What the post-processor puts before a text. */
  private templatePrefix(idOf: (token: string) => number | undefined): number[] {
    const [bare, whole] = this.limited("encode", 1000, () => [false, true].map((add_special_tokens) => this.library.tokenize("a", { add_special_tokens }))) as [string[], string[]];
    const start = whole.findIndex((_, i) => bare.every((token, j) => whole[i + j] === token));
    return whole.slice(0, Math.max(start, 0)).flatMap((token) => idOf(token) ?? []);
  }

  /** Throws ERR_SWITCHYARD_DATA should the text say a special token, ERR_SWITCHYARD_UNSUPPORTED if the tokenizer takes too long. */
  encode(text: string, { continued = false } = {}): Int32Array {
    // 1 s for a message, 20 us per character for a book: several times what the library needs.
    const { ids: all } = this.limited("encode", 1000 + text.length / 50, () => this.library.encode(continued ? before + text : text, { add_special_tokens: false }));
    const ids = continued ? all.slice(1) : all;
    check(ids.every((n) => n >= 0 && n < this.vocabSize), "ERR_SWITCHYARD_DATA", () => "encode: this model's vocabulary has neither a token for a part of the text nor one for what is unknown");
    // The vocabulary of some models holds the special tokens too, as ordinary strings.
    const special = ids.find((n) => this.specialIds.has(n) && n !== this.unknownId);
    check(special === undefined, "ERR_SWITCHYARD_DATA", () => `encode: the text contains ${JSON.stringify(this.library.id_to_token(special ?? 0))}, a special token of this model; remove it`);
    return Int32Array.from(ids);
  }

  decode(ids: ArrayLike<number>): string {
    const known = Array.from(ids).filter((n) => n < this.vocabSize && !this.specialIds.has(n) && this.library.id_to_token(n) !== undefined);
    if (known.length === 0) return "";
    return this.limited("decode", 1000 + known.length, () => this.library.decode(known, { skip_special_tokens: false, clean_up_tokenization_spaces: false }));
  }

  decodeStream(): DecodeStream {
    return new WindowedStream((ids) => this.decode(ids));
  }

  /** As `withTimeLimit`: a regular expression in the file may take exponential time. What the library cannot do with the file is an error of the file. */
  private limited<T>(operation: string, ms: number, action: () => T, again = false): T {
    try {
      return withTimeLimit(ms, action, again);
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      check(code === timeoutCode, "ERR_SWITCHYARD_FORMAT", () => `${join(this.folder, "tokenizer.json")}: ${operation}: ${String(message).slice(0, 1000)}`);
      throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `${operation}: this model's tokenizer took longer than ${Math.ceil(ms)} ms; its patterns do not suit this text`, { cause });
    }
  }

  toJSON(): Record<string, unknown> {
    return readJsonFile(join(this.folder, "tokenizer.json"), { maxBytes: maxTokenizerBytes }) as JsonObject;
  }

  save(folder: string): void {
    for (const name of [...files, ...namedTemplates(this.folder)]) {
      const [path, target] = [join(this.folder, name), join(folder, name)];
      if (!existsSync(path)) continue;
      withIoErrors("copy", path, () => {
        makeFolders(dirname(target));
        copyFileSync(path, target);
      });
    }
  }
}

/** Tokens kept as context, and the length at which the window is cut to them. */
const [keptTokens, windowTokens] = [4, 16];

/**
 * What a token says can depend on those around it: a leading space that is dropped at the start of a text, a character
 * in several byte tokens. So a window of the last tokens is decoded before and after each, and the difference is new.
 */
class WindowedStream implements DecodeStream {
  private ids: number[] = [];
  /** Characters of the window's text that were given out. */
  private given = 0;

  constructor(private readonly decode: (ids: readonly number[]) => string) {}

  push(next: number): string {
    this.ids.push(next);
    const text = this.decode(this.ids);
    // A last U+FFFD may be the beginning of a character.
    const complete = text.endsWith("\ufffd") ? text.length - 1 : text.length;
    const piece = text.slice(this.given, complete);
    this.given = Math.max(this.given, complete);
    // A character has at most four tokens, so twice the window without a whole one is no text at all.
    if (this.ids.length >= (complete === text.length ? windowTokens : 2 * windowTokens)) {
      this.ids = this.ids.slice(-keptTokens);
      this.given = this.decode(this.ids).length - (text.length - complete);
    }
    return piece;
  }

  end(): string {
    const rest = this.decode(this.ids).slice(this.given);
    this.ids = [];
    this.given = 0;
    return rest;
  }
}
