import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, cliJson, tiny } from "../../test/cli.js";
import { readSafetensorsHeader } from "../formats/safetensors.js";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors-writer.js";
import type { Verification } from "../inspect/verify.js";
import { EncoderDecoderModel } from "../model/encoder-decoder/model.js";
import { readSwitchConfig } from "../model/families/switch.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-verify-"));
const text = join(folder, "text.txt");
const model = join(folder, "model");
const golden = join(folder, "golden");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(async () => {
  writeFileSync(text, "the quick brown fox jumps over the lazy dog. ".repeat(60));
  await cliJson("train", "--data", text, "--out", model, ...tiny, "--width", "32", "--context", "48", "--steps", "5", "--layers-sparse", "first-dense:1");
  await cliJson("verify", model, "--record", golden);
});

interface Stored {
  dtype: TensorToWrite["dtype"];
  shape: readonly number[];
  bytes: Uint8Array;
}

let variants = 0;

/** A copy of the golden with other JSON or other tensors; `undefined` leaves a tensor out. */
async function variant(json: object, tensors: Readonly<Record<string, Partial<Stored> | undefined>> = {}): Promise<string> {
  const copy = join(folder, `variant-${variants++}`);
  cpSync(golden, copy, { recursive: true });
  const original = JSON.parse(readFileSync(join(golden, "golden.json"), "utf8")) as object;
  writeFileSync(join(copy, "golden.json"), JSON.stringify({ ...original, ...json }));
  const file = join(golden, "golden.safetensors");
  const bytes = readFileSync(file);
  const stored = new Map<string, Stored>([...readSafetensorsHeader(file).tensors].map(([name, { dtype, shape, begin, end }]) => [name, { dtype, shape, bytes: bytes.subarray(begin, end) }]));
  for (const [name, change] of Object.entries(tensors)) {
    if (change === undefined) stored.delete(name);
    else stored.set(name, { ...(stored.get(name) as Stored), ...change });
  }
  await writeSafetensors(join(copy, "golden.safetensors"), [...stored].map(([name, { dtype, shape, bytes: data }]) => ({ name, dtype, shape, chunks: () => [data] })));
  return copy;
}

const stored = (name: string): Uint8Array<ArrayBuffer> => {
  const file = join(golden, "golden.safetensors");
  const { begin, end } = readSafetensorsHeader(file).tensors.get(name)!;
  return new Uint8Array(readFileSync(file).subarray(begin, end));
};
const floats = (name: string): Float32Array => new Float32Array(stored(name).buffer);
const bytesOf = (values: ArrayBufferView): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

const check = async (path: string, ...args: string[]) => {
  const { code, stdout, stderr } = await cli(["verify", model, "--golden", path, "--json", ...args]);
  return { code, stderr, ...(stdout === "" ? {} : (JSON.parse(stdout) as Verification)) };
};

describe("verify", () => {
  it("agrees with what it recorded, to the last bit", async () => {
    const { stderr, ...verification } = await check(golden);
    expect(stderr).toBe("");
    expect(verification).toEqual({
      code: 0,
      pass: true,
      logits: { relativeError: 0 },
      routing: { layers: [{ layer: 1, agreement: 1, weightError: 0 }] },
      greedy: { match: true },
      tolerance: 1e-5,
      blocks: [],
    });
  });

  it("accepts doubles and integers of 32 bits, other shapes of the same tokens, and goldens that say less", async () => {
    const doubles = (name: string, shape: number[]) => ({ dtype: "F64" as const, shape, bytes: bytesOf(Float64Array.from(floats(name))) });
    const experts = { dtype: "I32" as const, bytes: bytesOf(Int32Array.from(new BigInt64Array(stored("layers.1.experts").buffer), Number)) };
    const other = await variant({}, { logits: doubles("logits", [80, 256]), "layers.1.weights": doubles("layers.1.weights", [2, 40, 2]), "layers.1.experts": experts });
    expect(await check(other)).toMatchObject({ code: 0, pass: true, logits: { relativeError: 0 } });
    const less = await variant({ greedy_prompt_ids: undefined, greedy_ids: undefined }, { logits: undefined, "layers.1.weights": undefined, "layers.1.router_logits": undefined });
    expect(await check(less)).toMatchObject({ code: 0, pass: true, logits: { relativeError: null }, routing: { layers: [{ layer: 1, agreement: 1, weightError: null }] }, greedy: { match: null } });
    const pair = await variant({});
    cpSync(join(pair, "golden.json"), join(folder, "pair.json"));
    cpSync(join(pair, "golden.safetensors"), join(folder, "pair.safetensors"));
    expect(await check(join(folder, "pair.json"))).toMatchObject({ code: 0, pass: true });
  });

  it("one row of ids needs no brackets around it", async () => {
    const path = join(folder, "one");
    await cliJson("verify", model, "--record", path, "--ids", "1,2,3,4,5");
    const file = join(path, "golden.json");
    const json = JSON.parse(readFileSync(file, "utf8")) as { input_ids: number[][] };
    writeFileSync(file, JSON.stringify({ ...json, input_ids: json.input_ids[0] }));
    expect(await check(path)).toMatchObject({ code: 0, pass: true });
  });

  it("tells a wrong logit, expert, weight, block and continuation, each by exit code 1 and its figure", async () => {
    const logits = floats("logits");
    const largest = Math.max(...logits.map(Math.abs));
    const wrong = logits.slice();
    wrong[100]! += 1e-3 * largest;
    const close = await variant({}, { logits: { bytes: bytesOf(wrong) } });
    const missed = await check(close);
    expect(missed).toMatchObject({ code: 1, pass: false, greedy: { match: true } });
    expect(missed.logits?.relativeError).toBeCloseTo(1e-3, 5);
    expect(await check(close, "--tolerance", "0.002")).toMatchObject({ code: 0, pass: true, tolerance: 0.002 });
    expect(await check(await variant({ f32_logit_error: 0.001 }, { logits: { bytes: bytesOf(wrong) } }))).toMatchObject({ code: 0, pass: true, tolerance: 0.002 });

    const experts = new BigInt64Array(stored("layers.1.experts").buffer);
    experts[0] = [0n, 1n, 2n, 3n].find((e) => !experts.subarray(0, 2).includes(e))!;
    const expert = await check(await variant({}, { "layers.1.experts": { bytes: bytesOf(experts) } }));
    expect(expert).toMatchObject({ code: 1, pass: false, logits: { relativeError: 0 }, routing: { layers: [{ agreement: 79 / 80 }] } });

    const weights = floats("layers.1.weights");
    weights[0]! -= 0.01;
    const weight = await check(await variant({}, { "layers.1.weights": { bytes: bytesOf(weights) } }));
    expect(weight).toMatchObject({ code: 1, pass: false, routing: { layers: [{ agreement: 1 }] } });
    expect(weight.routing?.layers[0]?.weightError).toBeGreaterThan(0.009);

    const ones = { dtype: "F32" as const, shape: [80, 32], bytes: bytesOf(new Float32Array(80 * 32).fill(1)) };
    const block = await check(await variant({}, { "layers.1.moe_input": ones, "layers.1.moe_output": ones }));
    expect(block).toMatchObject({ code: 1, pass: false, logits: { relativeError: 0 }, blocks: [{ layer: 1 }] });
    expect(block.blocks?.[0]?.relativeError).toBeGreaterThan(0.1);

    const nan = await check(await variant({}, { logits: { bytes: bytesOf(new Float32Array(logits.length).fill(NaN)) } }));
    expect(nan).toMatchObject({ code: 1, pass: false, logits: { relativeError: null } });

    const json = JSON.parse(readFileSync(join(golden, "golden.json"), "utf8")) as { greedy_ids: number[] };
    const greedy = await variant({ greedy_ids: json.greedy_ids.map((id, i) => (i === 20 ? (id + 1) % 256 : id)) });
    expect(await check(greedy)).toMatchObject({ code: 1, pass: false, logits: { relativeError: 0 }, greedy: { match: false } });
    const shown = await cli(["verify", model, "--golden", greedy]);
    expect(shown).toMatchObject({ code: 1, stdout: expect.stringMatching(/greedy  another text\n\nlayer  same experts .*\n1 +100% .*\n\nMISS: .*1e-5 allowed\n$/) });
  });

  it("records text and compares a GGUF file with it", async () => {
    const file = join(folder, "model.gguf");
    const recorded = join(folder, "from-text");
    await cliJson("convert", model, file);
    const { code, stdout } = await cli(["verify", model, "--record", recorded, "--data", text, "--tokens", "12"]);
    expect([code, stdout]).toEqual([0, expect.stringContaining(`switchyard verify ${model} --golden ${recorded}`)]);
    expect(JSON.parse(readFileSync(join(recorded, "golden.json"), "utf8"))).toMatchObject({ input_ids: [[...Buffer.from("the quick br")]], greedy_prompt_ids: [...Buffer.from("the quick ")] });
    expect(await cliJson("verify", file, "--golden", recorded)).toMatchObject({ pass: true, logits: { relativeError: 0 } });
  });

  it("takes an encoder-decoder, experts that drop tokens included", async () => {
    const [switchModel, recorded] = [join(folder, "switch"), join(folder, "switch-golden")];
    const config = readSwitchConfig({ model_type: "switch_transformers", vocab_size: 50, d_model: 24, d_kv: 8, d_ff: 32, num_layers: 2, num_heads: 3, num_experts: 4, expert_capacity: 3, encoder_sparse_step: 2, decoder_sparse_step: 1 }, "config.json");
    using created = EncoderDecoderModel.create({ config, seed: 3 });
    await created.save(switchModel);
    await cliJson("verify", switchModel, "--record", recorded);
    const layers = ["decoder.0", "decoder.1", "encoder.1"].map((layer) => ({ layer, agreement: 1, weightError: 0 }));
    expect(await cliJson("verify", switchModel, "--golden", recorded)).toMatchObject({ pass: true, logits: { relativeError: 0 }, routing: { layers }, greedy: { match: true } });
    expect(await check(recorded)).toEqual({ code: 1, stderr: expect.stringMatching(/decoder_input_ids are for encoder-decoder models, and the model is none/) });
  });

  it.each<[string, string[], RegExp]>([
    ["nothing to compare with", [], /name a golden to compare with \(--golden\), or a folder/],
    ["both", ["--golden", "a", "--record", "b"], /name a golden/],
    ["ids beside a golden", ["--golden", "a", "--ids", "1"], /--ids, --data and --tokens are for --record/],
    ["tokens beside a golden", ["--golden", "a", "--tokens", "1"], /--ids, --data and --tokens are for --record/],
    ["ids and data", ["--record", "a", "--ids", "1", "--data", "b"], /--ids or --data, not both/],
    ["ids that are none", ["--record", "a", "--ids", "1,x"], /Expected token ids/],
    ["ids outside the vocabulary", ["--record", join(folder, "r"), "--ids", "256"], /expected token ids from 0 to 255, got 256/],
    ["rows of different lengths", ["--record", join(folder, "r"), "--ids", "1,2", "--ids", "3"], /rows of token ids of one length, got 2, 1/],
    ["more tokens than the context", ["--record", join(folder, "r"), "--data", text, "--tokens", "49"], /from 1 to the model's context of 48, got 49/],
    ["a negative tolerance", ["--golden", "a", "--tolerance", "-1"], /tolerance: expected a number of at least 0/],
  ])("refuses %s as wrong usage", async (_, args, message) => {
    expect(await cli(["verify", model, ...args])).toMatchObject({ code: 2, stdout: "", stderr: expect.stringMatching(message) });
  });

  const matrix = (rows: number, cols: number) => ({ dtype: "F32" as const, shape: [rows, cols], bytes: new Uint8Array(rows * cols * 4) });
  it.each<[string, object, Parameters<typeof variant>[1], RegExp]>([
    ["ids that are no numbers", { input_ids: [["a"]] }, {}, /golden\.json: input_ids/],
    ["rows of ids of different lengths", { input_ids: [[1, 2], [3]] }, {}, /golden\.json: input_ids: expected rows of one length, got 2 and 1/],
    ["other ids than logits", { input_ids: [[1, 2]] }, {}, /tensor "logits": expected \[tokens\.\.\., vocabulary\] for 2 token ids, got \[2, 40, 256\]/],
    ["a greedy run without its prompt", { greedy_prompt_ids: undefined }, {}, /golden\.json: expected greedy_prompt_ids and greedy_ids, got only one/],
    ["a token outside the vocabulary", { greedy_prompt_ids: [256] }, {}, /token id 256 is outside the model's vocabulary of 256; is it the golden of this checkpoint/],
    ["a greedy run beyond the context", { greedy_ids: Array(40).fill(0) }, {}, /sequences of 50 tokens are longer than the model's context of 48/],
    ["logits of another vocabulary", {}, { logits: matrix(80, 255) }, /tensor "logits": its vocabulary has 255 tokens, the model's 256/],
    ["a dense layer", {}, { "layers.0.experts": matrix(80, 2) }, /layer 0 is not among the model's sparse layers \(1\)/],
    ["a tensor of too few rows", {}, { "layers.1.moe_input": matrix(79, 32) }, /tensor "layers\.1\.moe_input": expected 80 rows, .* got \[79, 32\]/],
    ["more experts than there are", {}, { "layers.1.router_logits": matrix(80, 5) }, /layer 1 has other experts than the model's 4/],
    ["an expert number too large", {}, { "layers.1.experts": { ...matrix(80, 2), bytes: bytesOf(new Float32Array(160).fill(4)) } }, /layer 1 has other experts than the model's 4/],
    ["half an expert", {}, { "layers.1.experts": { ...matrix(80, 2), bytes: bytesOf(new Float32Array(160).fill(0.5)) } }, /"layers\.1\.experts": expected expert numbers/],
    ["another width", {}, { "layers.1.moe_input": matrix(80, 31) }, /layer 1: its block has width 31, the model 32/],
    ["weights for other experts", {}, { "layers.1.weights": matrix(80, 3) }, /"layers\.1\.weights": expected one for each of "layers\.1\.experts" \[80, 2\], got \[80, 3\]/],
    ["a type without numbers", {}, { logits: { dtype: "F8_E4M3", bytes: new Uint8Array(80 * 256) } }, /tensor "logits": dtype: expected one of F64, .* got F8_E4M3/],
    ["nothing to compare with", { greedy_prompt_ids: undefined, greedy_ids: undefined }, { logits: undefined, "layers.1.experts": undefined, "layers.1.weights": undefined, "layers.1.router_logits": undefined }, /expected logits or tensors of layers, found neither/],
  ])("refuses a golden with %s", async (_, json, tensors, message) => {
    expect(await check(await variant(json, tensors))).toEqual({ code: 1, stderr: expect.stringMatching(message) });
  });

  it("says which file of a golden is missing", async () => {
    expect(await check(join(folder, "nowhere"))).toEqual({ code: 1, stderr: expect.stringMatching(/nowhere\/golden\.json is no file; name a folder with golden\.json/) });
    const half = await variant({});
    rmSync(join(half, "golden.safetensors"));
    expect(await check(half)).toEqual({ code: 1, stderr: expect.stringMatching(/golden\.safetensors is no file/) });
  });
});

const goldens = new URL("../../../shared/goldens/", import.meta.url).pathname;
const families = existsSync(goldens) ? readdirSync(goldens).filter((name) => existsSync(join(goldens, name, "golden.json"))) : [];

describe.skipIf(families.length === 0)("verify on checkpoints of published families (needs ../shared/goldens)", () => {
  it.each(families)("%s", async (family) => {
    const checkpoint = join(goldens, family);
    expect(await cliJson<Verification>("verify", checkpoint, "--golden", checkpoint)).toMatchObject({ pass: true, greedy: { match: true } });
  });
});
