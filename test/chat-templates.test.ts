import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { byteCharacters } from "../src/tokenizer/byte-level.js";
import { type ChatMessage, encodeChat } from "../src/tokenizer/chat.js";
import { ggufTokenizer } from "../src/tokenizer/gguf.js";
import type { Tokenizer } from "../src/tokenizer/tokenizer.js";

const folder = new URL("../../shared/data/chat-templates/", import.meta.url).pathname;

const weather = (description: string, properties: Record<string, unknown>) => ({ type: "function", function: { name: "weather", description, parameters: { type: "object", properties, required: ["place"] } } });
const place = { type: "string", description: "a city" };
const chats: { messages: ChatMessage[]; tools?: unknown[] }[] = [
  { messages: [{ role: "system", content: "Be brief." }, { role: "user", content: 'Hi, "you"!\n' }, { role: "assistant", content: "Hello." }, { role: "user", content: " What is 1+1? " }] },
  { messages: [{ role: "user", content: "What is 1+1?" }] },
  { messages: [{ role: "user", content: "Weather in Oslo?" }], tools: [weather('Weather at a "place" <now>', { place, days: { type: "integer" } })] },
  {
    messages: [
      { role: "user", content: "Weather in Oslo?" },
      { role: "assistant", content: "", tool_calls: [{ id: "call00001", type: "function", function: { name: "weather", arguments: { place: "Oslo", days: 2 } } }] },
      { role: "tool", name: "weather", tool_call_id: "call00001", content: '{"t": 3}' },
    ],
    tools: [weather("Weather at a place", { place })],
  },
];

/**
 * The first 8 digits of the sha256 of each chat as `render_jinja_template` of transformers 5.23.0 renders it, with bos_token "<s>",
 * eos_token "</s>", a generation prompt, and the 26th of July 2024 as the date. "none": transformers refuses; "unknown": the template
 * needs what @huggingface/jinja lacks; "differs": it writes JSON, whose quotes transformers escapes there as for HTML.
 */
const renders: Record<string, string> = {
  "Apertus-8B-Instruct": "c8548094 e934cfb6 e2b48e1d 16d6febf",
  "Apriel-1.6-15b-Thinker-fixed": "7da82468 9f2bcf85 unknown unknown",
  "Bielik-11B-v3.0-Instruct": "ba15b264 3fce7ef5 ae190794 6576064d",
  "ByteDance-Seed-OSS": "unknown unknown unknown unknown",
  "CohereForAI-c4ai-command-r-plus-tool_use": "none none none bb5807e5",
  "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "be433b99 107b7180 fa5b20de aebd77fc",
  "GLM-4.6": "f9618a4d be31a570 8ef9052a c9f4b64c",
  "GLM-4.7-Flash": "7573b715 af11b5c9 27162321 e27e8c0e",
  "GigaChat3-10B-A1.8B": "7e85637f 0c0c177c c6ebbdf9 57e23502",
  "GigaChat3.1-10B-A1.8B": "7e85637f 0c0c177c c6ebbdf9 d300a0e3",
  "HuggingFaceTB-SmolLM3-3B": "9a768265 6f7d2778 7ca9f17e 6c10b312",
  "Kimi-K2-Instruct": "47b9064e 16dd3bdb 4727b219 none",
  "Kimi-K2-Thinking": "76140471 4897aa4a 2b9016f7 none",
  "LFM2-8B-A1B": "ba15b264 3fce7ef5 2a729749 308be863",
  "LFM2.5-Instruct": "ba15b264 3fce7ef5 0179a7bd 82ee484f",
  "MiMo-VL": "67cfb14c 3c78601a f0446759 570dc9ab",
  "MiniMax-M2": "2ff220fc 2c15f7c6 b8a5a818 4873d93e",
  "Mistral-Small-3.2-24B-Instruct-2506": "bf6b2371 61fc0876 70f01fe6 c897d28f",
  "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "69b2e464 e50c5e32 9a24f43b 5ad9e465",
  "NVIDIA-Nemotron-Nano-v2": "dd0b708d a0b30381 08a8c46b f6211944",
  "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "none none unknown fcabd1c2",
  "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "none none unknown fcabd1c2",
  "Qwen-QwQ-32B": "7e01f4a0 b8951ddb 2b1021ea cebebd9a",
  "Qwen-Qwen2.5-7B-Instruct": "67cfb14c 536e6558 ca992eae 009511e7",
  "Qwen-Qwen3-0.6B": "67cfb14c a15b591b e19da4fa 8cfd959d",
  "Qwen3-Coder": "67cfb14c a15b591b ff2d4185 15e79f26",
  "Qwen3.5-4B": "ea9b6f87 52a0a50c 5e39cfa7 901028a6",
  "Reka-Edge": "b3c4bb09 b69c2a80 e8dae4d3 35bd5cba",
  "StepFun3.5-Flash": "66a1df39 db48d69a 1db5e33e 6fb60290",
  "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "ac976be3 fddaa3d5 ee848160 a3b50516",
  "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "7dd8d2ac f4bc98ca 084e5290 76e2879d",
  "deepseek-ai-DeepSeek-V3.1": "12d8c203 fd7de75c 47ddfed4 e5147e45",
  "deepseek-ai-DeepSeek-V3.2": "6d04b922 fd7de75c 4f06c44f 32fd10f9",
  "fireworks-ai-llama-3-firefunction-v2": "none none none none",
  "google-gemma-2-2b-it": "none 41352e09 a11c9679 none",
  "google-gemma-4-31B-it-interleaved": "09a0e431 d024e3ab 3299f4c9 e631ff71",
  "google-gemma-4-31B-it": "09a0e431 d024e3ab 3299f4c9 d3eda769",
  "ibm-granite-granite-3.3-2B-Instruct": "64e95e98 a36eca62 84ae8129 267db9fa",
  "ibm-granite-granite-4.0": "64e95e98 00063fe4 fe81d8a1 1c6ac76c",
  "llama-cpp-deepseek-r1": "c0b2e0f7 7a864d21 none none",
  "llama-cpp-rwkv-world": "aa91a2fd 881bd881 3f841335 85935cb3",
  "meetkai-functionary-medium-v3.1": "unknown unknown differs differs",
  "meetkai-functionary-medium-v3.2": "60754291 4c33bf83 unknown none",
  "meta-llama-Llama-3.1-8B-Instruct": "4c023130 ef1eaaa9 e079b398 6045da30",
  "meta-llama-Llama-3.2-3B-Instruct": "4c023130 ef1eaaa9 e079b398 6045da30",
  "meta-llama-Llama-3.3-70B-Instruct": "4c023130 ef1eaaa9 e079b398 6045da30",
  "microsoft-Phi-3.5-mini-instruct": "1fa84fab 25cd4174 a7bff3f7 8adc18a4",
  "mistralai-Ministral-3-14B-Reasoning-2512": "bf6b2371 2262d80f 9c18a027 b32e9d13",
  "mistralai-Mistral-Nemo-Instruct-2407": "041e5874 c48a1c3e bb1dd4ac afdec551",
  "moonshotai-Kimi-K2": "47b9064e ae280872 a3984d89 a9d5c4af",
  "openai-gpt-oss-120b": "154adbbf d54e4ae2 24646dad 6f57e76a",
  "stepfun-ai-Step-3.5-Flash": "66a1df39 db48d69a 1db5e33e 6fb60290",
  "unsloth-Apriel-1.5": "e97a2988 a565bcf3 unknown unknown",
  "unsloth-mistral-Devstral-Small-2507": "bf6b2371 3104f0a2 e8337e2b 573f47ce",
  "upstage-Solar-Open-100B": "d20bf922 d7590afd c51967dc 2b9f5660",
};

/** Bytes, and what looks like a special token in the template. */
function tokenizerOf(template: string): Tokenizer {
  const special = ["<s>", "</s>", ...new Set(template.match(/<[|\uff5c][^<>'"{}\s]*[|\uff5c]>|\[\/?[A-Z_]+\]/g))];
  const tokens = [...byteCharacters, ...special];
  const fields = { model: "gpt2", pre: "gpt-2", tokens, merges: [], token_type: tokens.map((_, id) => (id < 256 ? 1 : 3)), bos_token_id: 256, eos_token_id: 257 };
  const entries = Object.entries(fields).map(([key, value]) => [`tokenizer.ggml.${key}`, { value }] as const);
  return ggufTokenizer({ source: "test", entries: new Map<string, { value: unknown }>([...entries, ["tokenizer.chat_template", { value: template }]]) })!;
}

/** The text of ids, special tokens included. */
function textOf(tokenizer: Tokenizer, ids: Int32Array): string {
  const special = new Map([...tokenizer.special].map(([text, id]) => [id, text]));
  return Buffer.concat(Array.from(ids, (id) => (id < 256 ? Uint8Array.of(id) : Buffer.from(special.get(id)!)))).toString();
}

describe.skipIf(!existsSync(folder))("published chat templates (skipped without ../shared/data)", () => {
  it.each(Object.entries(renders))("%s says what it says in transformers", async (name, expected) => {
    const tokenizer = tokenizerOf(readFileSync(join(folder, `${name}.jinja`), "utf8"));
    for (const [i, digest] of expected.split(" ").entries()) {
      const { messages, tools } = chats[i]!;
      if (digest === "none" || digest === "differs") continue;
      const ids = encodeChat(tokenizer, messages, { ...(tools === undefined ? {} : { tools }), date: new Date(2024, 6, 26, 12, 30) });
      if (digest === "unknown") await expect(ids).rejects.toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED" }));
      else expect(createHash("sha256").update(textOf(tokenizer, await ids)).digest("hex").slice(0, 8), `chat ${i}`).toBe(digest);
    }
  });

  it.each(Object.entries(renders).filter(([, expected]) => /^[0-9a-f]{8}/.test(expected)))("%s gives what users write no special token", async (name) => {
    const tokenizer = tokenizerOf(readFileSync(join(folder, `${name}.jinja`), "utf8"));
    const specialIn = async (content: string) => {
      const [first, ...others] = chats[0]!.messages.map((message) => ({ ...message, content }));
      return Array.from(await encodeChat(tokenizer, [first!, ...others])).filter((id) => id >= 256);
    };
    const attack = ["", ...tokenizer.special.keys()].join(" x").trim();
    expect(await specialIn(attack)).toEqual(await specialIn("x"));
  });
});
