import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { GgufValue } from "../src/formats/gguf/metadata.js";
import { type GgufTensorToWrite, writeGguf } from "../src/formats/gguf/writer.js";
import { Model } from "../src/generate/model.js";

const data = new URL("../../shared/data/", import.meta.url).pathname;
const dir = mkdtempSync(join(tmpdir(), "switchyard-stories-"));
afterAll(() => rmSync(dir, { recursive: true }));

const golden = (name: string) => JSON.parse(readFileSync(join(data, `golden/${name}.golden.json`), "utf8"));

async function answer(model: Model, prompt: string | Int32Array, maxTokens: number): Promise<{ ids: number[]; text: string }> {
  const [ids, text]: [number[], string[]] = [[], []];
  for await (const chunk of model.generate(prompt, { temperature: 0, maxTokens })) {
    ids.push(chunk.token);
    text.push(chunk.text);
  }
  return { ids, text: text.join("") };
}

/** A checkpoint of llama2.c (a header of seven integers, then f32 tensors, layer after layer) and its tok512.bin (pieces with scores) as GGUF. */
async function writeStories260K(path: string): Promise<void> {
  const file = readFileSync(join(data, "stories260K/stories260K.bin"));
  const [D, F, L, H, kvHeads, V, context] = Array.from({ length: 7 }, (_, i) => file.readInt32LE(4 * i)) as [number, number, number, number, number, number, number];
  const kvWidth = (kvHeads * D) / H;
  let at = 28;
  const take = (shape: number[]) => {
    const bytes = 4 * shape.reduce((a, b) => a * b, 1);
    return { shape, bytes: Uint8Array.from(file.subarray(at, (at += bytes))) };
  };
  const tensors: GgufTensorToWrite[] = [];
  const add = (name: string, { shape, bytes }: { shape: number[]; bytes: Uint8Array }) => tensors.push({ name, type: "F32", shape, chunks: () => [bytes] });
  add("token_embd.weight", take([V, D]));
  for (const [name, ...shape] of [
    ["attn_norm", D], ["attn_q", D, D], ["attn_k", kvWidth, D], ["attn_v", kvWidth, D], ["attn_output", D, D],
    ["ffn_norm", D], ["ffn_gate", F, D], ["ffn_down", D, F], ["ffn_up", F, D],
  ] as const)
    for (let l = 0; l < L; l++) add(`blk.${l}.${name}.weight`, take([...shape]));
  add("output_norm.weight", take([D]));

  const vocabulary = readFileSync(join(data, "stories260K/tok512.bin"));
  const [tokens, scores]: [string[], number[]] = [[], []];
  for (let i = 4; i < vocabulary.length; ) {
    const length = vocabulary.readInt32LE(i + 4);
    scores.push(vocabulary.readFloatLE(i));
    tokens.push(vocabulary.toString("utf8", i + 8, i + 8 + length));
    i += 8 + length;
  }
  expect(tokens.length).toBe(V);
  // 0 to 2 are <unk>, <s> and </s>, 3 to 258 the bytes; ordinary pieces are written with spaces for U+2581.
  const kind = (id: number) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1);
  const u32 = (value: number): GgufValue => ({ type: "u32", value });
  const metadata: Record<string, GgufValue> = {
    "general.architecture": { type: "string", value: "llama" },
    "llama.block_count": u32(L), "llama.context_length": u32(context), "llama.embedding_length": u32(D), "llama.feed_forward_length": u32(F),
    "llama.attention.head_count": u32(H), "llama.attention.head_count_kv": u32(kvHeads),
    "llama.attention.layer_norm_rms_epsilon": { type: "f32", value: 1e-5 }, "llama.rope.freq_base": { type: "f32", value: 10_000 },
    "tokenizer.ggml.model": { type: "string", value: "llama" },
    "tokenizer.ggml.tokens": { type: "array", of: "string", value: tokens.map((token, id) => (kind(id) === 1 ? token.replaceAll(" ", "\u2581") : token)) },
    "tokenizer.ggml.scores": { type: "array", of: "f32", value: Float32Array.from(scores) },
    "tokenizer.ggml.token_type": { type: "array", of: "i32", value: Int32Array.from(tokens, (_, id) => kind(id)) },
    "tokenizer.ggml.bos_token_id": u32(1), "tokenizer.ggml.eos_token_id": u32(2),
  };
  await writeGguf(path, new Map(Object.entries(metadata)), tensors);
}

describe.skipIf(!existsSync(data))("published small models, token for token (skipped without ../shared/data)", () => {
  it("stories260K as GGUF: its vocabulary, and 200 greedy tokens", async () => {
    const path = join(dir, "stories260K.gguf");
    await writeStories260K(path);
    using model = await Model.load(path);
    const { greedy_tokens_from_BOS_200: ids, greedy_text: text, tokenize, prompt, prompt_tokens: promptTokens } = golden("stories260K");
    const tokenizer = model.tokenizer!;
    const encode = (given: string) => [...tokenizer.prefix, ...tokenizer.encode(given)];
    expect(encode(prompt)).toEqual(promptTokens);
    for (const [given, expected] of Object.entries(tokenize)) expect(encode(given), given).toEqual(expected);
    const got = await answer(model, Int32Array.of(1), ids.length - 1);
    expect(got.ids).toEqual(ids.slice(1));
    // The golden's own decoder leaves the tokens of bytes as they are written.
    expect(got.text).toBe(text.replaceAll("<0x0A>", "\n"));
  });

  it("TinyStories-656K as a folder: its prompt and its greedy tokens", async () => {
    using model = await Model.load(join(data, "tinystories-656k-hf"));
    const { prompt, prompt_tokens: promptTokens, greedy_tokens: ids, greedy_text: text } = golden("tinystories-656k");
    expect([...model.tokenizer!.prefix, ...model.tokenizer!.encode(prompt)]).toEqual(promptTokens);
    const got = await answer(model, prompt, ids.length - promptTokens.length);
    expect([...promptTokens, ...got.ids]).toEqual(ids);
    expect(` ${prompt}${got.text}`).toBe(text);
  });
});
