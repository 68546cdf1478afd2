import { SwitchyardError } from "../errors.js";

/**
 * How named byte-level BPE tokenizers cut text into words that no token crosses. The patterns are those of the published
 * tokenizer.json files; the names are those of `tokenizer.ggml.pre` in GGUF files.
 */
export interface PreTokenizer {
  /** Applied one after the other, each to what those before left; what a pattern does not match is a word too. */
  readonly patterns: readonly RegExp[];
  /** The patterns as a tokenizer.json has them. */
  readonly sources: readonly string[];
  /** A word that is a token is taken whole, even if no merges lead to it. */
  readonly ignoreMerges: boolean;
  /** Whether texts begin with the beginning-of-sequence token where the file does not say. */
  readonly addBos: boolean;
}

/** White space as Unicode defines it, and as the tokenizers' regular expressions do: JavaScript's \s is another set (U+FEFF, U+0085). */
const pattern = (source: string): RegExp => new RegExp(source.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}").replaceAll("\\p{Han}", "\\p{Script=Han}"), "gu");

/** The same characters one by one, in a class. */
const whiteSpace = "\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

/** With characters for code points, which regular expressions of other languages write otherwise. */
const withCharacters = (source: string): string => source.replaceAll(/\\u(?:\{([0-9a-f]+)\}|([0-9a-f]{4}))/gi, (_, braced?: string, plain?: string) => String.fromCodePoint(Number.parseInt(braced ?? plain ?? "", 16)));

/** A pattern with white space spelled out, so that the libraries of all languages take it alike, JavaScript's too. */
export const spelledOut = (source: string): string => withCharacters(source.replaceAll("[^\\s", `[^${whiteSpace}`).replaceAll("\\s", `[${whiteSpace}]`).replaceAll("\\S", `[^${whiteSpace}]`));
const named = (source: string): string => source.replaceAll(`[^${withCharacters(whiteSpace)}]`, "\\S").replaceAll(`[${withCharacters(whiteSpace)}]`, "\\s").replaceAll(withCharacters(whiteSpace), "\\s");

const contraction = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const spaces = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const punctuation = " ?[^\\s\\p{L}\\p{N}]+";
const gpt2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|${punctuation}|\\s+(?!\\S)|\\s+`;
/** GPT-4's pattern and its descendants: digits in groups of up to `digits`. */
const gpt4 = (digits: string): string => `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}|${punctuation}[\\r\\n]*|${spaces}`;
const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
/** GPT-4o's: words also begin at capital letters. */
const gpt4o = (suffix: string, digits: string, [u, l] = [upper, lower], ends = "[\\r\\n/]"): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${u}*${l}+${suffix}|[^\\r\\n\\p{L}\\p{N}]?${u}+${l}*${suffix}|\\p{N}${digits}|${punctuation}${ends}*|${spaces}`;
/** Kimi's: Chinese characters make words of their own. */
const kimi = `\\p{Han}+|${gpt4o(`${contraction}?`, "{1,3}", [`(?:(?!\\p{Han})${upper})`, `(?:(?!\\p{Han})${lower})`], "[\\r\\n]")}`;
const asciiPunctuation = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]";
const deepseekV3 = `${asciiPunctuation}[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|${spaces}`;
/** K-EXAONE's: a word goes on over spaces, as long as letters follow. */
const exaone = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|${punctuation}[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`;
/** Of a word that is all digits, what groups of three counted from its end leave. */
const beforeThrees = "^\\p{Nd}{1,2}(?=(?:\\p{Nd}{3})+$)";
/** Numbers that end at what the tokenizers' regular expressions call the border of a word. */
const numbers = "(?<!\\p{Nd})\\p{Nd}+(?![\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u00b2\\u00b3\\u00b9\\u00bc-\\u00be])";
/** Scripts written without spaces; each makes words of its own. */
const scripts =
  "(?:[\\u4E00-\\u9FFF\\u3040-\\u309F\\u30A0-\\u30FF\\u3400-\\u4DBF\\uf900-\\uFAFF\\uFF65-\\uFF9F\\u2F00-\\u2FDF]+|[\\u0E00-\\u0E7F]+|[\\u0E80-\\u0EFF]+|[\\u1780-\\u17FF]+|" +
  "[\\u1000-\\u109F\\uAA60-\\uAA7F\\uA9E0-\\uA9FF]+|[\\uAC00-\\uD7AF\\u1100-\\u11FF]+)";
const trinityDigits = ["\\p{Nd}{1,510}(?=(?>\\p{Nd}{510})*(?:\\P{Nd}|$))|\\G\\p{Nd}{510}", "\\A\\p{Nd}{1,2}(?=\\p{Nd}{3}+\\z)", "\\A\\p{Nd}{3}|\\G\\p{Nd}{3}"];
const cjk = "[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+";

/** The letters of deepseek-llm's tokenizer.json, as code points: most of the letters that have case, but not all. */
const deepseekLetters =
  "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf " +
  "1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 " +
  "1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f " +
  "a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943";
const deepseekLetterClass = deepseekLetters.replaceAll(/[0-9a-f]+/g, (hex) => `\\u{${hex}}`).replaceAll(" ", "");

/**
 * Names that cut alike -> how. deepseek-llm's "\s+$" has a lookbehind here: the same matches, but not in quadratic time. `sources`: those of
 * tokenizer.json where they are written otherwise here, for the same reason or because JavaScript has no such syntax.
 */
const table: readonly [names: string, patterns: readonly string[], options?: { ignoreMerges?: boolean; addBos?: boolean; sources?: readonly string[] }][] = [
  ["gpt-2 phi-2 mpt olmo jais exaone4 modern-bert mellum gigachat a.x-4.0", [gpt2]],
  ["starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", ["\\p{N}", gpt2]],
  ["falcon", ["[\\p{P}$+<=>^~|`]+", gpt2, "[0-9][0-9][0-9]"]],
  ["llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", [gpt4("{1,3}")], { ignoreMerges: true, addBos: true }],
  ["dbrx smaug-bpe glm4 chatglm-bpe", [gpt4("{1,3}")]],
  ["qwen2 stablelm2 deepseek-r1-qwen hunyuan solar-open grok-2 bailingmoe bailingmoe2 llada-moe megrez", [gpt4("")]],
  ["qwen35", [`${contraction}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${spaces}`]],
  ["tekken", [gpt4o("", "")], { ignoreMerges: true, addBos: true }],
  ["gpt-4o llama4 minimax-m2 kanana2", [gpt4o(`${contraction}?`, "{1,3}")]],
  ["deepseek-llm", ["[\\r\\n]", `\\s?[${deepseekLetterClass}]+`, "\\s?[!-/:-~\\uff01-\\uff0f\\uff1a-\\uff5e\\u2018-\\u201f\\u3000-\\u3002]+", "(?<!\\s)\\s+$", cjk, "\\p{N}+"]],
  ["deepseek-coder", ["[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", cjk, "\\p{N}"]],
  ["kimi-k2", [kimi]],
  ["exaone-moe", [exaone]],
  ["tiny_aya cohere2moe", [numbers, beforeThrees, gpt4o(`${contraction}?`, "{1,3}")], { sources: ["\\d{1,3}(?=(?:\\d{3})*\\b)", gpt4o(`${contraction}?`, "{1,3}")] }],
  // Not llama.cpp's, which has one class of all scripts, with borders of its own.
  ["afmoe", ["\\p{Nd}+", beforeThrees, "\\p{Nd}{3}", scripts, deepseekV3], { sources: [...trinityDigits, scripts, deepseekV3] }],
  ["deepseek-v3 hunyuan-dense joyai-llm", ["\\p{N}{1,3}", "[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+", deepseekV3]],
];

const byName = new Map(
  table.flatMap(([names, patterns, { ignoreMerges = false, addBos = false, sources = patterns } = {}]) => {
    const cutting: PreTokenizer = { patterns: patterns.map(pattern), sources: sources.map(withCharacters), ignoreMerges, addBos };
    return names.split(" ").map((name) => [name, cutting] as const);
  }),
);

export const preTokenizerNames: readonly string[] = [...byName.keys()].sort();

/** The pre-tokenizer of that name. Throws ERR_SWITCHYARD_UNSUPPORTED with the list of what is known: another one would give wrong tokens. */
export function preTokenizer(name: string, source: string): PreTokenizer {
  const found = byName.get(name);
  if (found !== undefined) return found;
  throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `${source}: unknown pre-tokenizer ${JSON.stringify(name)}; known are ${preTokenizerNames.join(", ")}`);
}

/** The first name of a cutting by these patterns, as a tokenizer.json has them; "gpt-2" stands for GPT-2's. Undefined if none is known. */
export function preTokenizerName(sources: readonly string[], ignoreMerges: boolean): string | undefined {
  const plain = (source: string) => named(withCharacters(source === "gpt-2" ? gpt2 : source)).replaceAll("(?i:'s|'t|'re|'ve|'m|'ll|'d)", contraction);
  const wanted = sources.map(plain).join("\n");
  const alike = [...byName].filter(([, cutting]) => cutting.sources.map(plain).join("\n") === wanted);
  // Where merges lead to every token, as in a tiktoken file, it makes no difference whether words are taken whole.
  const found = alike.find(([, cutting]) => cutting.ignoreMerges === ignoreMerges) ?? (ignoreMerges ? alike[0] : undefined);
  return found?.[0];
}

/** The words of a text, in order; joined they are the text. */
export function splitWords(text: string, patterns: readonly RegExp[]): string[] {
  return patterns.reduce((words, regex) => words.flatMap((word) => cut(word, regex)), text === "" ? [] : [text]);
}

/** No pattern matches the empty string. (matchAll would copy the pattern for every word.) */
function cut(text: string, regex: RegExp): string[] {
  const words: string[] = [];
  let end = 0;
  regex.lastIndex = 0;
  for (let match = regex.exec(text); match !== null; match = regex.exec(text)) {
    if (match.index > end) words.push(text.slice(end, match.index));
    words.push(match[0]);
    end = regex.lastIndex;
  }
  if (end < text.length) words.push(text.slice(end));
  return words;
}
