import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { refusal, withWrongValues } from "../../test/malformed.js";
import type { JsonObject } from "../formats/json.js";
import { ggufTokenizer } from "./gguf.js";
import { loadTokenizer, tokenizerOf } from "./load.js";
import { parseTiktoken, readTiktoken } from "./tiktoken.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-malformed-"));
afterAll(() => rmSync(root, { recursive: true }));

const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
const file: JsonObject = {
  version: "1.0",
  added_tokens: [{ id: 0, content: "<unk>", ...flags }, { id: 1, content: "<s>", ...flags }],
  normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "\u2581" }, { type: "Replace", pattern: { String: " " }, content: "\u2581" }] },
  pre_tokenizer: { type: "Split", pattern: { Regex: "\\p{L}+" }, behavior: "Isolated", invert: false },
  post_processor: { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }], pair: [], special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } } },
  decoder: { type: "Sequence", decoders: [{ type: "Replace", pattern: { String: "\u2581" }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" }] },
  model: { type: "BPE", unk_token: "<unk>", fuse_unk: true, byte_fallback: true, vocab: { "<unk>": 0, "<s>": 1, "\u2581": 2, a: 3, b: 4, ab: 5 }, merges: ["a b"] },
};
const config: JsonObject = { bos_token: "<s>", eos_token: { content: "<s>" }, unk_token: "<unk>", chat_template: [{ name: "default", template: "x" }] };

/** What refuses the files of a folder "x" and the tokenizer they make. */
const refused = (json: JsonObject, settings = config) => refusal(() => tokenizerOf("x", json, settings).encode("a ab"), ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_UNSUPPORTED"]);

describe("tokenizer.json and tokenizer_config.json", () => {
  it("a value of another kind anywhere is named", () => {
    expect(refused(file)).toBeUndefined();
    const wrong = withWrongValues(file, ["model.vocab", "post_processor.special_tokens"]).filter(({ path }) => path !== "version");
    expect(wrong.length).toBeGreaterThan(200);
    for (const { path, value, json } of wrong) {
      // Of a map and of a union the whole is named.
      const field = path.replace(/(?<=model\.vocab|model\.merges|special_tokens|pattern|single\.0).*/, "");
      expect(refused(json), `${path}: ${JSON.stringify(value)}`).toContain(`x/tokenizer.json: ${field}`);
    }
  });

  it("so are special tokens that are no text, in tokenizer_config.json", () => {
    const { chat_template: _, ...tokens } = config;
    const wrong = withWrongValues(tokens).filter(({ path, value }) => path !== "eos_token" || value !== "x");
    expect(wrong.length).toBe(15);
    for (const { path, value, json } of wrong) expect(refused(file, json), `${path}: ${JSON.stringify(value)}`).toContain(`x/tokenizer_config.json: ${path.split(".")[0]}`);
  });

  it.each<[string, JsonObject, string]>([
    ["a normalizer that is not known", { normalizer: { type: "Nonsense" } }, "Unknown Normalizer type: Nonsense"],
    ["a pre-tokenizer that is not known", { pre_tokenizer: { type: "Nonsense" } }, "Unknown PreTokenizer type: Nonsense"],
    ["a decoder that is not known", { decoder: { type: "Nonsense" } }, "Unknown Decoder type: Nonsense"],
    ["a post-processor that is not known", { post_processor: { type: "Nonsense" } }, "Unknown PostProcessor type: Nonsense"],
    ["a pattern that is no regular expression", { pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated", invert: false } }, "Invalid regular expression"],
    ["a merge without a space", { model: { ...(file["model"] as JsonObject), merges: ["ab"] } }, "model.merges: expected an array of merges"],
    ["a merge of three", { model: { ...(file["model"] as JsonObject), merges: [["a", "b", "a"]] } }, "model.merges: expected an array of merges"],
    ["a huge id", { added_tokens: [{ id: 2 ** 40, content: "x" }] }, "added_tokens.0.id"],
    ["an empty added token", { added_tokens: [{ id: 9, content: "" }] }, "added_tokens.0.content"],
    ["a negative unknown id", { model: { type: "Unigram", unk_id: -1, vocab: [["<unk>", 0], ["a", -1]] } }, "model.unk_id"],
  ])("refuses %s", (_, change, message) => expect(refused({ ...file, ...change })).toContain(message));
});

describe("the files of a folder", () => {
  const small: JsonObject = { added_tokens: [{ id: 1, content: "<s>" }], model: { type: "BPE", vocab: { a: 0 }, merges: [] } };
  const whole: Readonly<Record<string, JsonObject>> = { "tokenizer.json": small, "tokenizer_config.json": { eos_token: { content: "<s>" } }, "generation_config.json": { eos_token_id: [1, 2] } };
  beforeEach(() => Object.entries(whole).forEach(([name, json]) => writeFileSync(join(root, name), JSON.stringify(json))));
  const read = (name: string, text: string | Buffer) => {
    writeFileSync(join(root, name), text);
    return refusal(() => loadTokenizer(root), ["ERR_SWITCHYARD_FORMAT"]);
  };

  it.each(Object.keys(whole))("%s cut anywhere is refused by name", (name) => {
    const bytes = Buffer.from(JSON.stringify(whole[name]));
    expect(read(name, bytes)).toBeUndefined();
    for (let length = 0; length < bytes.length; length++) expect(read(name, bytes.subarray(0, length)), `${length} bytes`).toContain(`${name}: `);
  });

  it.each<[string, string | Buffer, string]>([
    ["tokenizer.json", "[]", "expected an object"],
    ["tokenizer.json", JSON.stringify(file).replace('"ab":5', '"a":5'), "model.vocab.a: duplicate key"],
    ["tokenizer.json", `{"model":${"[".repeat(40)}`, "nested deeper"],
    ["tokenizer.json", Buffer.from([0x7b, 0xff, 0x7d]), "UTF-8"],
    ["tokenizer_config.json", "1", "expected an object"],
    ["tokenizer_config.json", '{"chat_template": 1}', "chat_template"],
    ["tokenizer_config.json", '{"chat_template": [{"name": "x"}]}', "chat_template: 0.template"],
    ["tokenizer_config.json", '{"chat_template": [{"name": 1, "template": "x"}]}', "chat_template: 0.name"],
    ["generation_config.json", "[]", "expected an object"],
    ["generation_config.json", '{"eos_token_id": "2"}', "eos_token_id"],
    ["generation_config.json", '{"eos_token_id": -1}', "eos_token_id"],
    ["generation_config.json", '{"eos_token_id": [1, 1.5]}', "eos_token_id"],
  ])("%s: %s", (name, text, message) => {
    expect(read(name, text)).toContain(name);
    expect(read(name, text)).toContain(message);
  });
});

describe("vocabularies in GGUF metadata", () => {
  const vocabularies: readonly JsonObject[] = [
    { model: "gpt2", pre: "gpt-2", tokens: ["a", "b", "ab", "</s>"], token_type: [1, 1, 1, 3], merges: ["a b"], bos_token_id: 3, eos_token_id: 3, padding_token_id: 3, eot_token_id: 3, eom_token_id: 3, add_bos_token: true },
    { model: "llama", tokens: ["<unk>", "<s>", "</s>", "a"], scores: [0, 0, 0, -1], token_type: [2, 3, 3, 1], bos_token_id: 1, eos_token_id: 2, unknown_token_id: 0, add_space_prefix: false },
  ];
  const read = (keys: JsonObject) => {
    const entries = new Map(Object.entries(keys).map(([key, value]) => [`tokenizer.ggml.${key}`, { value }]));
    return refusal(() => ggufTokenizer({ entries, source: "x.gguf" })?.encode("a"), ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_UNSUPPORTED"]);
  };

  it.each(vocabularies)("a value of another kind in any key of a $model vocabulary is named", (keys) => {
    expect(read(keys)).toBeUndefined();
    const wrong = withWrongValues(keys).filter(({ path, value }) => path !== "scores.0" || value !== -1.5);
    expect(wrong.length).toBeGreaterThan(40);
    for (const { path, value, json } of wrong) {
      const [key = ""] = path.split(".");
      // Lists that are empty, or too short for the others, and what is not known.
      const names = [`tokenizer.ggml.${key}`, ...(["tokens", "token_type", "scores"].includes(key) ? ["tokens: ", "token type", "type of token", "scores: ", "token id"] : [])];
      expect(names.filter((name) => read(json)?.includes(name)), `${path}: ${JSON.stringify(value)}: ${read(json)}`).not.toEqual([]);
    }
  });

  it.each<[string, number, JsonObject, string]>([
    ["an unknown kind", 0, { model: "bert" }, "model"],
    ["an unknown pre-tokenizer", 0, { pre: "nonsense" }, "nonsense"],
    ["no tokens", 0, { tokens: [], token_type: [] }, "tokens: expected 1 to"],
    ["fewer types than tokens", 0, { token_type: [1] }, "token types"],
    ["an unknown type", 0, { token_type: [1, 1, 1, 9] }, "type of token 3"],
    ["a merge of what is no token", 0, { merges: ["a c"] }, 'merge 0, "a c"'],
    ["a merge without a space", 0, { merges: ["ab"] }, "merge 0"],
    ["an id beyond the tokens", 0, { eos_token_id: 4 }, "eos token id"],
    ["an end of turn beyond the tokens", 0, { eot_token_id: 4 }, "end of turn token id"],
    ["more scores than tokens", 1, { scores: [0, 0, 0, 0, 0] }, "scores"],
    ["an unknown token beyond the tokens", 1, { unknown_token_id: 4 }, "unknown token id"],
  ])("refuses %s", (_, which, change, message) => expect(read({ ...vocabularies[which], ...change })).toContain(message));

  it("refuses vocabularies without a key that they need", () => {
    for (const [keys, needed] of [[vocabularies[0], ["model", "pre", "tokens", "merges"]], [vocabularies[1], ["model", "tokens", "scores"]]] as const) {
      for (const key of needed) {
        const { [key]: _, ...rest } = keys as JsonObject;
        expect(read(rest)).toContain(`tokenizer.ggml.${key}`);
      }
    }
  });
});

describe("tiktoken files", () => {
  const read = (text: string) => refusal(() => parseTiktoken(text, "x.tiktoken", { pre: "qwen2", special: { "<s>": 9 }, bos: "<s>" }), ["ERR_SWITCHYARD_FORMAT"]);
  const right = ["YQ== 0", "Yg== 1", "YWI= 2", "Yw== 3"];

  it("lines of any other form are named", () => {
    expect(read(right.join("\n"))).toBeUndefined();
    const lines = [
      "YQ==", "YQ== ", " 0", "YQ== x", "YQ== -1", "YQ== +4", "YQ== 4.5", "YQ== 4e0", "YQ== 0x4", "YQ==  4", "YQ==\t4", " YQ== 4", "YQ== 4 ", "YQ== 4 5", "YQ=== 4", "=== 4", "= 4", "Y! 4", "YQ= =4", "\u00e9 4",
      "YQ== 9", "YQ== 0", "YQ== 1", "YQ== 2", "YQ== 3", "YQ== 266", "YQ== 1000", "YQ== 16777216", "YQ== 4294967296", "YQ== 9007199254740993", `YQ== ${"9".repeat(400)}`, "YQ==,4", "YQ==:4", "YQ==;4", "4 YQ==", "0", "-", "#", "//8 4 #",
      "YQ_= 4", "YQ-= 4", "\"YQ==\" 4", "{\"YQ==\": 4}", "YQ== \u0664", "YQ== 4\u0000", "\u0000", "\ufeffYQ== 4", "YQ== NaN", "YQ== Infinity", "YQ== null", "YQ== 1_0", "YQ== 1,0", "YQ== '4'", "YQ== (4)", "YQ== 4n", "YQ== 4f", "YQ==4", "4=", "<s> 4", "a b c", "YQ== --4", "YQ== 4-",
    ];
    expect(lines.length).toBeGreaterThan(60);
    for (const [i, line] of lines.entries()) {
      const at = i % right.length;
      expect(read([...right.slice(0, at), line, ...right.slice(at)].join("\n")), JSON.stringify(line)).toMatch(/^x\.tiktoken: line \d+: expected /);
    }
  });

  it("what is no file is not read to its end", () => {
    for (const path of ["/dev/zero", root]) expect(refusal(() => readTiktoken(path, { pre: "qwen2", special: {} }), ["ERR_SWITCHYARD_FORMAT"])).toContain("something that is not a file");
  });

  it("a file cut anywhere is a shorter one or is refused", () => {
    const text = right.join("\n");
    for (let length = 0; length <= text.length; length++) {
      // What is left ends with a whole line, or a rank of which digits are missing.
      const whole = length === 0 || /(?: \d|\n)$/.test(text.slice(0, length));
      if (whole) expect(read(text.slice(0, length)), `${length} bytes`).toBeUndefined();
      else expect(read(text.slice(0, length)), `${length} bytes`).toContain("x.tiktoken: line ");
    }
  });
});
