import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cliJson } from "../../test/cli.js";
import { ReferenceEngine } from "../engine/reference.js";
import { openCheckpointTensors, readAsF32 } from "../formats/checkpoint.js";
import type { GgufValue } from "../formats/gguf/metadata.js";
import { readGgufHeader } from "../formats/gguf/reader.js";
import { type GgufTensorToWrite, writeGguf } from "../formats/gguf/writer.js";
import { Model } from "../generate/model.js";
import type { Inspection } from "../inspect/inspect.js";
import { type QuantizationReport, quantize } from "../inspect/quantize.js";
import type { Verification } from "../inspect/verify.js";
import type { Tensor } from "../tensor/tensor.js";
import type { StoredModel } from "./any-model.js";
import type { ModelConfig } from "./config.js";
import { EncoderDecoderModel } from "./encoder-decoder/model.js";
import { readHfConfig } from "./families/hf-config.js";
import { readModelFolder, writeModelFolder } from "./folder.js";
import { readModelGguf, writeModelGguf } from "./gguf-file.js";
import { initialise } from "./parameter-specs.js";
import { Parameters } from "./parameters.js";
import { modelConfig } from "./presets.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-own-gguf-"));
afterAll(() => rmSync(dir, { recursive: true }));
const path = join(dir, "m.gguf");
const engine = new ReferenceEngine({ float: "f32" });
const load = ({ config, sources }: StoredModel<ModelConfig>) => new Parameters(engine, config, sources);

const goldens = new URL("../../../shared/goldens/", import.meta.url).pathname;

/** minimax: the golden's tables of decays are not the published ones. */
describe.skipIf(!existsSync(goldens)).each(["flex_olmo", "minimax"])("%s as GGUF in our own description (needs ../shared/goldens)", (family) => {
  const folder = join(goldens, family);

  it("to F32 and back is the same file of weights, byte for byte", async () => {
    const original = await readModelFolder(folder);
    expect(await writeModelGguf(path, original.config, load(original), { type: "F32" })).toMatchObject({ architecture: "switchyard" });
    const read = readModelGguf(path);
    expect([{ ...read.config, published: undefined }, read.family.modelType]).toEqual([{ ...original.config, published: undefined }, family]);
    const [copy, back] = [join(dir, `copy-${family}`), join(dir, `back-${family}`)];
    await writeModelFolder(copy, original.config, load(original), undefined);
    await writeModelFolder(back, read.config, load(read), undefined);
    for (const name of ["model.safetensors", "config.json"]) expect(readFileSync(join(back, name)).equals(readFileSync(join(copy, name)))).toBe(true);
    expect((await cliJson<Verification>("verify", path, "--golden", folder)).pass).toBe(true);
  });

  it("generates what the folder does", async () => {
    const file = join(dir, `${family}-generates.gguf`);
    await cliJson("convert", folder, file);
    const answer = async (from: string) => {
      using model = await Model.load(from, { engine });
      const tokens: number[] = [];
      for await (const { token } of model.generate(Int32Array.from([5, 80, 33, 7]), { maxTokens: 8, temperature: 0 })) tokens.push(token);
      return tokens;
    };
    const tokens = await answer(file);
    expect(tokens).toHaveLength(8);
    expect(tokens).toEqual(await answer(folder));
  });

  it("quantised it is what a folder of that type is; decays and routers stay F32", async () => {
    const [file, other] = [join(dir, `${family}-q8.gguf`), join(dir, `${family}-q8`)];
    expect(await cliJson("quantize", folder, "--type", "q8_0", "--out", file)).toMatchObject({ architecture: "switchyard" });
    expect(await cliJson("convert", folder, other, "--type", "q8_0")).toMatchObject({ architecture: null });
    const [a, b] = [load(readModelGguf(file)), load(await readModelFolder(other))];
    const bits = (tensor: Tensor) => Buffer.from(Float32Array.from(engine.read(tensor)).buffer);
    expect(a.list.filter(({ name, tensor }) => !bits(tensor).equals(bits(b.get(name)))).map(({ name }) => name)).toEqual([]);
    expect([...readGgufHeader(file).tensors].filter(([name, { type }]) => /decay|slope|norm|\.gate\.weight/.test(name) === (type === "Q8_0"))).toEqual([]);
    expect(await cliJson("inspect", file)).toMatchObject({ modelType: family, weights: { dtypes: ["F32", "Q8_0"] } });
  });
});

describe.skipIf(!existsSync(goldens))("an encoder-decoder as GGUF in our own description (needs ../shared/goldens)", () => {
  const folder = join(goldens, "switch");
  const paths = (name: string) => [join(dir, `${name}.gguf`), join(dir, name)] as const;
  const elementsOf = (of: string) => [...openCheckpointTensors(of)].map(([name, tensor]): [string, number[]] => [name, [...readAsF32(tensor)].flatMap((values) => [...values])]);

  it("to F32 and back has the same tensors, and computes the same", async () => {
    const [file, back] = paths("switch-f32");
    expect(await cliJson("convert", folder, file)).toMatchObject({ architecture: "switchyard", modelType: "switch_transformers" });
    expect(await cliJson("convert", file, back)).toMatchObject({ architecture: null });
    const inOrder = (of: string) => elementsOf(of).sort(([a], [b]) => (a < b ? -1 : 1));
    expect(inOrder(back)).toEqual(inOrder(folder));
    for (const copy of [file, back]) expect(await cliJson("verify", copy, "--golden", folder)).toMatchObject({ pass: true, greedy: { match: true } });
    const { parameters, layers } = await cliJson<Inspection>("inspect", folder);
    expect(await cliJson("inspect", file)).toMatchObject({ modelType: "switch_transformers", parameters, layers, weights: { dtypes: ["F32"] } });
    const refused = { code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(/is an encoder-decoder, not a language model/) };
    for (const either of [file, folder]) await expect(Model.load(either, { engine })).rejects.toMatchObject(refused);
  });

  it("quantised has a report, and generates, as file and as folder", async () => {
    const [file, other] = paths("switch-q8");
    const report = await cliJson<QuantizationReport>("quantize", folder, "--type", "q8_0", "--out", file);
    expect(report).toMatchObject({ architecture: "switchyard", modelType: "switch_transformers", drift: null, calibration: null, fallbacks: [] });
    expect(report.groups.map(({ group }) => group).sort()).toEqual(["attention", "cross", "embedding", "experts.down", "experts.up", "ffn.down", "ffn.up", "positions", "router", "vectors"]);
    expect(JSON.parse(readFileSync(`${file}.report.json`, "utf8"))).toEqual(report);
    expect(report.bytes.after).toBeLessThan(report.bytes.before / 2);
    expect([...readGgufHeader(file).tensors].filter(([name, { type }]) => /norm|classifier|relative/.test(name) === (type === "Q8_0"))).toEqual([]);
    await cliJson("convert", folder, other, "--type", "q8_0");
    const answer = async (from: string) => {
      using model = await EncoderDecoderModel.load(from, { engine });
      return [...model.generate([9, 4, 77, 130, 1], { maxTokens: 8 })];
    };
    expect(await answer(file)).toHaveLength(8);
    expect(await answer(other)).toEqual(await answer(file));
    await expect(quantize(folder, join(dir, "never.gguf"), { type: "Q8_0", data: file })).rejects.toThrow(/encoder-decoder, which does not read plain text/);
  });
});

type Change = (metadata: Map<string, GgufValue>, tensors: GgufTensorToWrite[]) => unknown;

describe("our own description of a model", () => {
  /** A model with a router of our own as a file, changed. */
  async function spoil(change: Change): Promise<StoredModel<ModelConfig>> {
    const config = modelConfig({ vocab: 32, width: 32, layers: 2, heads: 2, context: 8, moe: { router: "expert-choice" } });
    const parameters = new Parameters(engine, config);
    initialise(parameters, 1);
    await writeModelGguf(path, config, parameters, { type: "Q4_0" });
    const { metadata, tensors } = readGgufHeader(path);
    const bytes = readFileSync(path);
    const list = [...tensors].map(([name, { type, shape, begin, end }]) => ({ name, type, shape, chunks: () => [bytes.subarray(begin, end)] }));
    const entries = new Map(metadata.entries);
    change(entries, list);
    await writeGguf(path, entries, list);
    return readModelGguf(path);
  }
  const text = (value: string): GgufValue => ({ type: "string", value });
  const configOf = (metadata: Map<string, GgufValue>) => metadata.get("switchyard.config")?.value as string;

  it("takes what no published family expresses", async () => {
    const { config, family } = await spoil(() => undefined);
    expect([config.moe?.router.selection, family.modelType]).toEqual(["expert-choice", "switchyard"]);
  });

  it.each<[string, Change, string, RegExp]>([
    ["no config", (m) => m.delete("switchyard.config"), "FORMAT", /"switchyard.config": expected a string, the key is missing/],
    ["a config of another type", (m) => m.set("switchyard.config", { type: "u32", value: 1 }), "FORMAT", /"switchyard.config": expected a string, got u32/],
    ["a config that is no JSON", (m) => m.set("switchyard.config", text("{")), "FORMAT", /"switchyard.config": expected a key/],
    ["a config nested too deep", (m) => m.set("switchyard.config", text("[".repeat(1e5))), "FORMAT", /nested deeper than 32/],
    ["an unknown model type", (m) => m.set("switchyard.config", text('{"model_type": "x"}')), "UNSUPPORTED", /"switchyard.config": unknown model_type "x"/],
    ["another width", (m) => m.set("switchyard.config", text(configOf(m).replaceAll('"width": 32', '"width": 64'))), "FORMAT", /tensor "model.embed_tokens.weight": the metadata says \[32, 64\], the file has \[32, 32\]/],
    ["a tensor missing", (_, t) => t.pop(), "FORMAT", /tensor ".*" is missing/],
    ["a tensor too many", (_, t) => t.push({ name: "x", type: "F32", shape: [1], chunks: () => [new Uint8Array(4)] }), "UNSUPPORTED", /tensor "x" is not part of a switchyard model/],
    ["integers for weights", (_, t) => Object.assign(t.find(({ type }) => type === "F32")!, { type: "I32" }), "UNSUPPORTED", /its type I32 cannot be read/],
  ])("refuses %s", async (_, change, code, message) => {
    await expect(spoil(change)).rejects.toMatchObject({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringMatching(message) });
  });
});

it.each<[string, object]>([
  ["deepseek_v3", { first_k_dense_replace: 2, n_group: 1, topk_group: 1, q_lora_rank: 8, kv_lora_rank: 8, qk_rope_head_dim: 4, qk_nope_head_dim: 4, v_head_dim: 8 }],
  ["dots1", { first_k_dense_replace: 2, head_dim: 8, num_experts_per_tok: 2, n_routed_experts: 4 }],
])("%s without a sparse layer, which keys of GGUF cannot state, comes back the same", async (modelType, fields) => {
  const sizes = { vocab_size: 32, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 2, max_position_embeddings: 16, intermediate_size: 24 };
  const { config } = readHfConfig({ ...sizes, ...fields, model_type: modelType }, "config.json");
  const parameters = new Parameters(engine, config);
  initialise(parameters, 1);
  expect((await writeModelGguf(path, config, parameters, { type: "F32" })).architecture).toBe("switchyard");
  const read = readModelGguf(path);
  expect({ ...read.config, published: undefined }).toEqual({ ...config, published: undefined });
  const after = new Parameters(engine, config, read.sources);
  for (const { name, tensor } of parameters.list) expect(engine.read(after.get(name)), name).toEqual(engine.read(tensor));
});
