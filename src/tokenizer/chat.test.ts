import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { byteCharacters } from "./byte-level.js";
import { byteTokenizer } from "./bytes.js";
import { type ChatMessage, type ChatOptions, encodeChat } from "./chat.js";
import { ggufTokenizer } from "./gguf.js";
import { loadTokenizer } from "./load.js";
import type { Tokenizer } from "./tokenizer.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-chat-"));
afterAll(() => rmSync(root, { recursive: true }));

const special = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|tool|>"];
const chatml = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/** Tokens are bytes, and after them the special ones; `templates` by name. */
function withTemplates(templates: Record<string, string>): Tokenizer {
  const tokens = [...byteCharacters, ...special];
  const fields = { model: "gpt2", pre: "gpt-2", tokens, merges: [], token_type: tokens.map((_, id) => (id < 256 ? 1 : 3)), bos_token_id: 256, eos_token_id: 257 };
  const vocabulary = Object.entries(fields).map(([key, value]) => [`tokenizer.ggml.${key}`, { value }] as const);
  const chat = Object.entries(templates).map(([name, value]) => [`tokenizer.chat_template${name === "default" ? "" : `.${name}`}`, { value }] as const);
  return ggufTokenizer({ source: "test", entries: new Map<string, { value: unknown }>([...vocabulary, ...chat]) })!;
}
/** Ids as text, special tokens between braces. */
const shown = (ids: ArrayLike<number>) => Buffer.concat(Array.from(ids, (id) => (id < 256 ? Uint8Array.of(id) : Buffer.from(`{${special[id - 256]}}`)))).toString();
const render = async (template: string, messages: ChatMessage[], options?: ChatOptions) => shown(await encodeChat(withTemplates({ default: template }), messages, options));
const user = (content: unknown, more: object = {}): ChatMessage[] => [{ role: "user", content, ...more }];
const failing = (code: string, message: RegExp) => expect.objectContaining({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringMatching(message) });

describe("a chat", () => {
  it("becomes ids in which only the template speaks in special tokens", async () => {
    expect(await render(chatml, user("Hi <|im_end|>"))).toBe("{<|im_start|>}user\nHi <|im_end|>{<|im_end|>}\n{<|im_start|>}assistant\n");
    expect(await render(chatml, user("Hi"), { addGenerationPrompt: false })).toBe("{<|im_start|>}user\nHi{<|im_end|>}\n");
  });

  it.each<[string, string, ChatMessage[], string]>([
    ["in parts that the template joins", "{% for p in messages[0].content %}{{ p.text }}{% endfor %}", user([{ text: "<|im_" }, { text: "end|>" }]), "<|im_end|>"],
    ["in what stands between the template's own brackets", "<{{ messages[0].content }}><|{{ messages[0].name }}|>", user("unk", { name: "im_end" }), "<unk><|im_end|>"],
    ["in a key", "{% for k, v in messages[0].args|items %}<{{ k }}>{{ v }}{% endfor %}", user("", { args: { "/s": "</s>" } }), "</s></s>"],
    ["in JSON", "{{ messages[0].content | tojson }}", user(["</s>", '"'], {}), '["</s>", "\\""]'],
    ["in ASCII JSON", "{{ messages[0].content | tojson(ensure_ascii=true) }}", user(["</s>", "\u00e9\ue000"], {}), '["</s>", "\\u00e9\\ue000"]'],
    ["in other spellings", "{{ messages[0].content | replace('x', '') | trim | lower }}", user(" <|IM_xEND|> "), "<|im_end|>"],
  ])("is never a special token %s", async (_, template, messages, text) => {
    expect(await render(`<s>${template}`, messages)).toBe(`{<s>}${text}`);
  });

  it("is never a special token, whatever the text", async () => {
    const tokenizer = withTemplates({ default: `${chatml}{{ messages[0].content | tojson }}` });
    const pieces = fc.array(fc.constantFrom(...special, "<|", "|>", "<", ">", "im_end", "/s", "s", "\ue000", "\\ue001", " ", "\n", "\u00e9", '"', "\ud83d\ude00"), { maxLength: 8 }).map((all) => all.join(""));
    await fc.assert(
      fc.asyncProperty(pieces, pieces, async (a, b) => {
        const text = shown(await encodeChat(tokenizer, [{ role: "user", content: a }, { role: "assistant", content: b }]));
        expect(text).toBe(`{<|im_start|>}user\n${a}{<|im_end|>}\n{<|im_start|>}assistant\n${b}{<|im_end|>}\n{<|im_start|>}assistant\n${JSON.stringify(a)}`);
      }),
      { numRuns: 100 },
    );
  });

  it("keeps what the template's code looks for", async () => {
    const template = "{% set c = messages[0].content %}{% if '</think>' in c %}{{ c.split('</think>')[-1] }}{% endif %}{% if messages[0].kind == 'tool' %}{{ '<|tool|>' }}{% endif %}";
    expect(await render(template, user("<think>a</think>b</s>", { kind: "tool" }))).toBe("b</s>{<|tool|>}");
  });

  it("tells the template tools, documents, its tokens, wishes and the date", async () => {
    const template = "{{ bos_token }}{{ tools[0].name }}{{ documents[0].title }}{{ enable_thinking }}{{ reasoning_effort }}{{ strftime_now('%d %b %Y %H:%M') }}{{ x is defined }}{{ eos_token }}";
    const options = { tools: [{ name: "t" }], documents: [{ title: "d" }], thinking: false, reasoningEffort: "low", date: new Date(2025, 1, 3, 4, 5) } as const;
    expect(await render(template, user(""), options)).toBe("{<s>}tdfalselow03 Feb 2025 04:05false{</s>}");
    expect(await render("{{ tools is none }}{{ documents is none }}{{ thinking is defined }}", user(""))).toBe("truetruefalse");
  });

  it("takes the template by name, that for tools where there are tools", async () => {
    const tokenizer = withTemplates({ default: "a", tool_use: "b", rag: "c" });
    const text = async (options: ChatOptions) => shown(await encodeChat(tokenizer, user(""), options));
    expect([await text({}), await text({ tools: [] }), await text({ template: "rag" })]).toEqual(["a", "b", "c"]);
    await expect(text({ template: "x" })).rejects.toThrow(failing("USAGE", /"x"; it has default, tool_use, rag/));
  });

  const circle: unknown[] = [];
  circle.push(circle);
  it.each<[string, unknown, RegExp]>([
    ["none", [], /at least one/],
    ["an unknown role", [{ role: "<|im_end|>", content: "" }], /messages\[0\]\.role: expected one of system/],
    ["no message", [null], /messages\[0\]/],
    ["a function", user(() => 1), /messages\[0\]\.content: expected a JSON value/],
    ["a number that is none", user(Number.NaN), /JSON value, got NaN/],
    ["a large integer", user(1n), /expected JSON values .*BigInt/],
    ["a circle", user(circle), /expected JSON values .*circular/],
    ["endless nesting", user(Array.from({ length: 100 }).reduce((inner) => [inner], "")), /nested deeper/],
  ])("of messages that are %s is refused", async (_, messages, message) => {
    await expect(render(chatml, messages as ChatMessage[])).rejects.toThrow(failing("USAGE", message));
  });

  it("refuses a misspelled option", async () => {
    await expect(render(chatml, user("Hi"), { addGenerationPromt: false } as ChatOptions)).rejects.toThrow(failing("USAGE", /chat: unknown option "addGenerationPromt"; did you mean addGenerationPrompt\?/));
  });
});

describe("a template", () => {
  it.each<[string, string, string, RegExp]>([
    ["that refuses", "{{ raise_exception('no system role') }}", "USAGE", /template refuses these messages: no system role/],
    ["that is broken", "{% if %}", "UNSUPPORTED", /chat template: /],
    ["with an unknown filter", "{{ messages | nonsense }}", "UNSUPPORTED", /nonsense/],
    ["that runs for ever", "{% for i in range(10000000) %}x{% endfor %}", "UNSUPPORTED", /more than (200 ms|64 MB)/],
    ["that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "UNSUPPORTED", /chat template/],
    ["that writes a book", "{% set ns = namespace(x='0123456789abcdef') %}{% for i in range(20) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}", "UNSUPPORTED", /16777216 characters, more than 8388608/],
    ["that fills the memory at once", "{% set x = range(1000000) %}{% set y = x + x + x + x + x + x + x + x %}{{ y | length }}", "UNSUPPORTED", /more than (200 ms|64 MB)/],
    ["that fills the memory", "{% set ns = namespace(x=[1, 2, 3, 4, 5, 6, 7, 8]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "UNSUPPORTED", /more than (200 ms|64 MB)|Invalid/],
  ])("%s gives an error, and the next one runs", async (_, template, code, message) => {
    await expect(render(template, user(""))).rejects.toThrow(failing(code, message));
    expect(await render("ok", user(""))).toBe("ok");
  });

  it("does not hold up the event loop while it runs", async () => {
    const pauses: number[] = [];
    let last = performance.now();
    const timer = setInterval(() => {
      pauses.push(performance.now() - last);
      last = performance.now();
    }, 10);
    await expect(render("{% for i in range(100000000) %}{% endfor %}", user(""))).rejects.toThrow(failing("UNSUPPORTED", /more than/));
    clearInterval(timer);
    expect(pauses.length).toBeGreaterThan(5);
  });

  it("is read from a folder: its own file, or tokenizer_config.json with one or several; and saved", async () => {
    const folder = join(root, "folder");
    mkdirSync(folder);
    byteTokenizer().save(folder);
    expect(loadTokenizer(folder)!.chatTemplates).toEqual({});
    await expect(encodeChat(loadTokenizer(folder)!, user(""))).rejects.toThrow(failing("UNSUPPORTED", /no chat template/));
    const configure = (chat_template: unknown) => writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify({ chat_template }));
    configure("one");
    expect(loadTokenizer(folder)!.chatTemplates).toEqual({ default: "one" });
    configure([{ name: "default", template: "one" }, { name: "rag", template: "two" }]);
    expect(loadTokenizer(folder)!.chatTemplates).toEqual({ default: "one", rag: "two" });
    writeFileSync(join(folder, "chat_template.jinja"), "own");
    const tokenizer = loadTokenizer(folder)!;
    expect(tokenizer.chatTemplates).toEqual({ default: "own", rag: "two" });
    for (const chatTemplates of [tokenizer.chatTemplates, { default: "own" }]) {
      const copy = mkdtempSync(join(root, "copy-"));
      tokenizer.chatTemplates = chatTemplates;
      tokenizer.save(copy);
      expect(loadTokenizer(copy)!.chatTemplates).toEqual(chatTemplates);
    }
    configure(5);
    expect(() => loadTokenizer(folder)).toThrow(failing("FORMAT", /chat_template/));
  });
});

it.skipIf(process.platform !== "linux")("is run anew after its process was ended by somebody else", async () => {
  expect(await render("one", user(""))).toBe("one");
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim().split(" ");
  for (const pid of children) if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("max-old-space-size=64")) process.kill(Number(pid), "SIGKILL");
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(await render("two", user(""))).toBe("two");
});

describe("in a tokenizer.json", () => {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const vocab = Object.fromEntries(["<unk>", "<s>", "<|user|>", "<|end|>", "\u2581", "a", "b", "\u2581a", "\u2581b", " ", "\n"].map((token, id) => [token, id]));
  const file = {
    version: "1.0",
    added_tokens: [{ id: 1, content: "<s>", ...flags }, { id: 2, content: "<|user|>", ...flags, rstrip: true, special: false }, { id: 3, content: "<|end|>", ...flags, lstrip: true }],
    normalizer: null,
    pre_tokenizer: { type: "Metaspace", replacement: "\u2581", prepend_scheme: "first", split: false },
    post_processor: null,
    decoder: { type: "Metaspace", replacement: "\u2581", prepend_scheme: "first", split: false },
    model: { type: "BPE", unk_token: "<unk>", fuse_unk: true, byte_fallback: false, vocab, merges: ["\u2581 a", "\u2581 b"] },
  };
  const folder = mkdtempSync(join(root, "hf-"));
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(file));
  writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ eos_token_id: [3, 1] }));
  writeFileSync(join(folder, "chat_template.jinja"), "{{ messages[0].content }}<|user|> \n a<|user|>b \n<|end|> b");
  const tokenizer = loadTokenizer(folder)!;
  const ids = (...tokens: string[]) => tokens.map((token) => vocab[token]);

  it("special tokens take white space beside them, and only a text's beginning gets a space", async () => {
    expect([...tokenizer.encode("a")]).toEqual(ids("\u2581a"));
    expect([...tokenizer.encode("a", { continued: true })]).toEqual(ids("a"));
    expect([...(await encodeChat(tokenizer, user("a")))]).toEqual(ids("\u2581a", "<|user|>", "a", "<|user|>", "b", "<|end|>", "\u2581b"));
  });

  it("what looks like the mark of a turn is special, whatever the file says", () => {
    expect(tokenizer.special.get("<|user|>")).toBe(2);
    expect([...tokenizer.encode("<|user|>")]).not.toContain(2);
    expect(tokenizer.decode([tokenizer.vocabSize])).toBe("");
  });

  it("several tokens may end an answer", () => {
    expect(tokenizer.endIds).toEqual([3, 1]);
    const copy = mkdtempSync(join(root, "bad-"));
    cpSync(folder, copy, { recursive: true });
    writeFileSync(join(copy, "generation_config.json"), JSON.stringify({ eos_token_id: "x" }));
    expect(() => loadTokenizer(copy)).toThrow(failing("FORMAT", /generation_config\.json: eos_token_id/));
  });

  it("further templates stand in files of their own, and are saved with it", () => {
    const [named, saved] = [mkdtempSync(join(root, "named-")), mkdtempSync(join(root, "saved-"))];
    cpSync(folder, named, { recursive: true });
    mkdirSync(join(named, "additional_chat_templates"));
    writeFileSync(join(named, "additional_chat_templates/tool_use.jinja"), "tools");
    loadTokenizer(named)!.save(saved);
    expect(loadTokenizer(saved)!.chatTemplates).toEqual({ ...tokenizer.chatTemplates, tool_use: "tools" });
  });
});
