import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, cliJson, tiny } from "../../test/cli.js";
import { nativeVariants } from "../../test/engines.js";
import { Model } from "../generate/model.js";
import { type QuantizationReport, quantize as quantizeModel } from "../inspect/quantize.js";
import { Random } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { train } from "../train/train.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-quantize-"));
const [model, text, other] = ["model", "text.txt", "other.txt"].map((name) => join(folder, name)) as [string, string, string];
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Sentences that a small model learns to some degree. */
function sentences(seed: number, count: number): string {
  const random = new Random(seed);
  const one = (words: string) => words.split(" ")[random.below(4)];
  return Array.from({ length: count }, () => `${one("the a my one")} ${one("quick lazy brown old")} ${one("fox dog cat owl")} ${one("jumps runs sits sees")} ${one("over under near by")} it. `).join("");
}

let count = 0;
const target = (suffix = ".gguf") => join(folder, `${count++}${suffix}`);
const quantize = (source: string, out: string, ...args: string[]) => cliJson<QuantizationReport>("quantize", source, "--out", out, ...args);

beforeAll(async () => {
  writeFileSync(text, sentences(1, 900));
  writeFileSync(other, sentences(2, 60));
  await cliJson("train", "--data", text, "--out", model, ...tiny, "--width", "64", "--hidden", "64", "--expert-hidden", "64", "--batch", "8", "--steps", "200");
});

describe("quantize", () => {
  it.each([".gguf", ""])("to q8_0 (%s): hardly any drift, and a report beside what loads again", async (suffix) => {
    const out = target(suffix);
    const report = await quantize(model, out, "--type", "q8_0", "--data", other);
    expect(JSON.parse(readFileSync(`${out}.report.json`, "utf8"))).toEqual(report);
    expect(report).toMatchObject({ source: model, target: out, type: "Q8_0", tokenizer: true, calibration: null, fallbacks: [], drift: { text: "data" } });
    const { bytes, drift, groups, bitsPerWeight } = report;
    expect(bytes.after).toBeLessThan(0.35 * bytes.before);
    expect(bitsPerWeight).toBeLessThan(9);
    expect(groups.find(({ group }) => group === "router")).toMatchObject({ types: { F32: 2 }, bitsPerWeight: 32 });
    expect(groups.find(({ group }) => group === "experts.up")).toMatchObject({ types: { Q8_0: suffix === "" ? 16 : 4 }, bitsPerWeight: 8.5 });
    expect(Math.abs(Math.log(drift!.perplexity.after / drift!.perplexity.before))).toBeLessThan(0.002);
    expect(drift!.klDivergence).toBeLessThan(1e-4);
    expect(drift!.sameTop).toBeGreaterThan(0.98);
    for (const { agreement, weightError } of drift!.routers) expect([agreement > 0.97, weightError < 0.05]).toEqual([true, true]);
    // The figures are those of `eval`.
    const { loss } = await cliJson<{ loss: number }>("eval", out, "--data", other);
    expect(loss).toBeCloseTo(Math.log(drift!.perplexity.after), 5);
  });

  it("to q4_k: rows of 64 get blocks of 32, which the report says", async () => {
    const out = target();
    const report = await quantize(model, out, "--type", "q4_k", "--data", other);
    expect(report.fallbacks).toContainEqual({ tensor: "blk.0.ffn_down_exps.weight", wanted: "Q4_K", type: "Q4_1" });
    expect(report.fallbacks).toContainEqual({ tensor: "output.weight", wanted: "Q6_K", type: "Q8_0" });
    expect(report.fallbacks.filter(({ tensor }) => /norm|gate_inp/.test(tensor))).toEqual([]);
    const { before, after } = report.drift!.perplexity;
    expect(Math.abs(Math.log(after / before))).toBeLessThan(0.05);
    expect(report.drift!.klDivergence).toBeGreaterThan(1e-6);
    const shown = await cli(["quantize", model, "--out", target(), "--type", "q4_k"]);
    expect(shown).toMatchObject({ code: 0, stderr: "switchyard: writing\n", stdout: expect.stringMatching(/experts\.up +Q4_1 x 4 +65,536 +5\.00\n[\s\S]*Q4_1 for Q4_K\n\nNot compared: name a text/) });
  });

  it("single experts get types of their own in a folder, which generates the same with and without a budget", async () => {
    const out = target("");
    const report = await quantize(model, out, "--type", "q4_0", "--tensor-type", "layers.0.*experts\\.[12]\\.=q8_0", "--tensor-type", "w2=Q5_1");
    expect(report.groups.find(({ group }) => group === "experts.up")).toMatchObject({ types: { Q4_0: 12, Q8_0: 4 } });
    expect(report.groups.find(({ group }) => group === "experts.down")).toMatchObject({ types: { Q5_1: 6, Q8_0: 2 } });
    using loaded = await Model.load(out);
    if (loaded.engine.name !== "native") return;
    const types = (name: string) => (loaded.parameters.experts(name)[0] as readonly Tensor[]).map(({ dtype }) => dtype);
    expect([types("layers.0.experts.up"), types("layers.1.experts.down")]).toEqual([["q4_0", "q8_0", "q8_0", "q4_0"], ["q5_1", "q5_1", "q5_1", "q5_1"]]);
    const generate = (...args: string[]) => cliJson<{ tokens: number[] }>("generate", out, "the quick", "--max-tokens", "12", "--temperature", "0", ...args);
    expect((await generate("--memory", "2GiB")).tokens).toEqual((await generate()).tokens);
  });

  it("a pattern with the flag g fits each name from its beginning", async () => {
    const report = await quantizeModel(model, target(), { type: "Q4_0", tensorTypes: [{ tensors: /_exps/g, type: "Q8_0" }] });
    expect(report.groups.filter(({ group }) => group.startsWith("experts")).map(({ types }) => types)).toEqual([{ Q8_0: 4 }, { Q8_0: 2 }]);
  });

  it("without a target, to MODEL-TYPE.gguf in the folder one is in", async () => {
    const before = process.cwd();
    process.chdir(folder);
    try {
      expect(await cliJson<QuantizationReport>("quantize", model, "--type", "q8_0")).toMatchObject({ target: "model-q8_0.gguf" });
      expect(existsSync(join(folder, "model-q8_0.gguf"))).toBe(true);
    } finally {
      process.chdir(before);
    }
  });

  it("from what is quantised already", async () => {
    const [first, second] = [target(), target("")];
    await quantize(model, first, "--type", "q8_0");
    expect(await quantize(first, second, "--type", "iq4_nl", "--data", other)).toMatchObject({ groups: expect.arrayContaining([expect.objectContaining({ group: "attention", types: { IQ4_NL: 8 } })]) });
    expect(await quantize(second, target(), "--type", "bf16")).toMatchObject({ type: "BF16" });
  });
});

describe("calibration", () => {
  it("counts the tokens of every expert, reads on for rare ones, and compares on the rest", async () => {
    const report = await quantize(model, target(), "--type", "q4_0", "--calibrate", text, "--expert-tokens", "10");
    const { tokens, layers, rare, unseen } = report.calibration!;
    expect(tokens).toBe(16_384);
    expect(report.drift).toMatchObject({ text: "held out" });
    // Two experts per token.
    for (const layer of layers) expect(layer.tokens.reduce((a, b) => a + b)).toBe(2 * tokens);
    expect([layers.length, rare, unseen]).toEqual([2, [], []]);
    const all = await quantize(model, target(), "--type", "q4_0", "--calibrate", text, "--expert-tokens", "1000000");
    expect(all.calibration!.tokens).toBe(readFileSync(text).length - 1);
    expect(all.calibration!.rare).toHaveLength(8);
    expect(all.drift).toMatchObject({ text: "calibration" });
  });

  it("names the experts that no token reached, and takes the layer's average for them", async () => {
    const source = target("");
    using made = Model.create({ width: 32, layers: 2, heads: 2, context: 16, vocab: 257, moe: { experts: 3, active: 1, hidden: 32 }, tokenizer: byteTokenizer(), seed: 1 });
    const { engine, parameters } = made;
    // Expert 1 likes what expert 0 dislikes, so one of the two always likes a token more than expert 2, which finds all alike.
    const router = parameters.get("layers.1.router.weight");
    const [first] = [Float32Array.from(engine.read(router)).subarray(0, 32)];
    engine.write(router, [...first, ...first.map((x) => -x), ...first.map(() => 0)]);
    await made.save(source);
    const { calibration } = await quantize(source, target(), "--type", "q4_0", "--calibrate", text);
    expect(calibration!.unseen).toEqual([{ layer: 1, expert: 2 }]);
    expect(calibration!.layers[1]!.tokens[2]).toBe(0);
    expect(calibration!.rare.map(({ tokens }) => tokens)).not.toContain(0);
    expect((await cli(["quantize", source, "--out", target(), "--calibrate", text])).stdout).toMatch(/None reached these, which have their layer's average importance: 1\.2\n/);
  });

  // Four models are trained, which takes minutes on the reference engine.
  it.skipIf(nativeVariants.length === 0)("lowers the drift of trained models whose activations differ in size, as those of large models do", { timeout: 120_000 }, async () => {
    const divergence = { plain: 0, calibrated: 0 };
    // Of one model the last bits of its training decide; the mean of several is what calibration is for.
    for (const seed of [1, 2, 3, 4]) {
      const source = target("");
      using made = Model.create({ width: 64, layers: 2, heads: 2, context: 16, hidden: 64, vocab: 257, moe: { experts: 4, active: 2, hidden: 64 }, tokenizer: byteTokenizer(), seed });
      const { engine, parameters } = made;
      const random = new Random(seed);
      // Norms that start as they end up in models of billions of parameters: some columns far above the others.
      for (const { name, tensor } of parameters.list) if (name.endsWith("norm")) engine.write(tensor, Float32Array.from({ length: 64 }, () => Math.exp(3 * (random.float() - 0.5) + 3 * (random.float() - 0.5))));
      for await (const _ of train(made, { data: text, batch: 16, steps: 100, learningRate: 3e-3, seed }));
      await made.save(source);
      const drift = async (...args: string[]) => (await quantize(source, target(), "--type", "iq4_nl", "--data", other, ...args)).drift!;
      const [plain, calibrated] = [await drift(), await drift("--calibrate", text)];
      divergence.plain += plain.klDivergence;
      divergence.calibrated += calibrated.klDivergence;
    }
    expect(divergence.calibrated).toBeLessThan(divergence.plain);
  });
});

describe("what quantize refuses leaves nothing behind", () => {
  it.each<[string, () => string[], number, RegExp]>([
    ["a target without a name", () => [model, "--out", ""], 2, /quantize: the target: expected the path of a file or folder, got ""/],
    ["a target that exists", () => [model, "--out", model], 2, /model exists; name another target/],
    ["an unknown type", () => [model, "--out", target(), "--type", "q9"], 2, /Allowed choices are f32, f16, bf16, q8_0, q6_k/],
    ["a rounded router", () => [model, "--out", target(), "--router", "q8_0"], 2, /'--router <name>' argument 'q8_0' is invalid\. Allowed choices are f32/],
    ["a tensor type that is none", () => [model, "--out", target(), "--tensor-type", "down=q9"], 2, /Expected PATTERN=TYPE, such as experts\.7\.=q6_k, with one of the types f32, f16/],
    ["a pattern that is none", () => [model, "--out", target(), "--tensor-type", "(=q8_0"], 2, /Invalid regular expression/],
    ["a pattern that fits nothing", () => [model, "--out", target(), "--tensor-type", "experts\\.9=q8_0"], 2, /\/experts\\\.9\/ fits no tensor; names are like "blk\.[01]\./],
    ["a rounded router, by its name", () => [model, "--out", target(), "--tensor-type", "gate_inp=q8_0"], 2, /\/gate_inp\/ fits only what stays F32, such as "blk\.0\.ffn_gate_inp\.weight": routers, vectors/],
    ["a missing source", () => [join(folder, "none"), "--out", target()], 1, /none does not exist/],
    ["a missing text", () => [model, "--out", target(), "--calibrate", join(folder, "none.txt")], 1, /none\.txt does not exist/],
    ["a text too short", () => [model, "--out", target(), "--calibrate", join(folder, "short.txt")], 1, /short\.txt: expected more than 1024 tokens of text, got 1000; give more/],
    ["a comparison too short", () => [model, "--out", target(), "--data", join(folder, "short.txt")], 1, /expected more than 1024 tokens of text/],
    ["tokens per expert, and nothing to calibrate on", () => [model, "--out", target(), "--expert-tokens", "10"], 2, /name a text to calibrate on/],
    ["no tokens for an expert", () => [model, "--out", target(), "--calibrate", text, "--expert-tokens", "0"], 2, /at least 1 for the tokens of an expert, got 0/],
    ["a folder that is a file", () => [model, "--out", join(model, "config.json/x.gguf")], 1, /ENOTDIR, a part of the path is not a folder|EEXIST, a file of that name is in the way/],
  ])("%s", async (_, args, code, message) => {
    writeFileSync(join(folder, "short.txt"), "x".repeat(1000));
    const before = readdirSync(folder).toSorted();
    expect(await cli(["quantize", ...args()])).toMatchObject({ code, stderr: expect.stringMatching(message) });
    expect(readdirSync(folder).toSorted()).toEqual(before);
  });

  it("a type in a program that is none", async () => {
    const refused = { code: "ERR_SWITCHYARD_USAGE", message: expect.stringMatching(/type: expected one of F32, F16, .*, got "q4_k"/) };
    const [type, out] = ["q4_k" as "Q4_K", target()];
    await expect(quantizeModel(model, out, { type })).rejects.toMatchObject(refused);
    await expect(quantizeModel(model, out, {} as { type: "Q4_K" })).rejects.toMatchObject({ ...refused, message: expect.stringContaining("got undefined") });
    await expect(quantizeModel(model, out, { type: "F32", tensorTypes: [{ tensors: /./, type }] })).rejects.toMatchObject(refused);
  });

  it("text without a tokenizer, weights that are not finite, activations that are not", { timeout: 120_000 }, async () => {
    const bare = target("");
    using changed = await Model.load(model);
    changed.tokenizer = undefined;
    await changed.save(bare);
    expect((await cli(["quantize", bare, "--out", target(), "--data", text])).stderr).toMatch(/has no tokenizer, so text cannot be read/);
    using damaged = await Model.load(model);
    damaged.engine.fill(damaged.parameters.get("layers.1.attention.v"), Infinity);
    const source = target("");
    await damaged.save(source);
    for (const [args, message] of [[[], /tensor "blk\.1\.attn_v\.weight": encode Q4_0: expected numbers up to 65504, .* got Infinity; choose bf16 or f32/], [["--calibrate", text], /is multiplied with is not finite/]] as const) {
      const out = target();
      expect(await cli(["quantize", source, "--out", out, "--type", "q4_0", ...args])).toMatchObject({ code: 1, stderr: expect.stringMatching(message) });
      expect(existsSync(out)).toBe(false);
    }
  });
});
