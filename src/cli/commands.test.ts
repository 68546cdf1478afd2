import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { cli, cliJson, tiny } from "../../test/cli.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-cli-"));
const text = join(folder, "text.txt");
const model = join(folder, "model");
writeFileSync(text, "the quick brown fox jumps over the lazy dog. ".repeat(60));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Trained {
  steps: number;
  tokens: number;
  loss: number;
  crossEntropy: number;
  resumedFrom: number | null;
  parameters: { total: number; active: number };
  validation: { loss: number; perplexity: number };
  best: { step: number; loss: number };
}

let trained: Trained;
beforeAll(async () => {
  trained = await cliJson("train", "--data", text, "--out", model, ...tiny, "--learning-rate", "0.01");
});

describe("train", () => {
  it("learns, and says what it did", () => {
    expect(trained).toMatchObject({ steps: 20, tokens: 20 * 2 * 16, resumedFrom: null });
    expect(trained.crossEntropy).toBeLessThan(4.5); // ln 256 = 5.55 at the start
    expect(trained.validation.perplexity).toBeCloseTo(Math.exp(trained.validation.loss));
    expect(trained.best.loss).toBeLessThanOrEqual(trained.validation.loss);
  });

  it("has the short names of other programs' flags, and computes with as many threads as told to", async () => {
    vi.stubEnv("SWITCHYARD_THREADS", "2");
    const result = await cliJson<Trained & { engine: { threads: number } }>("train", "--data", text, "-o", join(folder, "short"), ...tiny, "--lr", "1e-2", "-t", "1");
    vi.unstubAllEnvs();
    expect(result).toMatchObject({ loss: trained.loss, engine: { threads: 1 } });
  });

  it("goes on by --data, --out and --resume alone, and longer with --steps", async () => {
    const out = join(folder, "resumed");
    await cliJson("train", "--data", text, "--out", out, ...tiny, "--balance", "loss-free", "--z-loss", "0.001", "--warmup", "2");
    const before = readdirSync(out);
    const same = await cli(["train", "--data", text, "--out", out, "--resume"]);
    expect(same).toMatchObject({ code: 0, stderr: expect.stringContaining(`${out} is at step 20 of 20 already; to train it longer, give more steps`) });
    expect(readdirSync(out)).toEqual(before);
    expect(await cliJson<Trained>("train", "--data", text, "--out", out, "--resume", "--steps", "24")).toMatchObject({ resumedFrom: 20, steps: 24, tokens: 4 * 32 });
    const stored = JSON.parse(readFileSync(join(out, "checkpoints/step-00000024/trainer.json"), "utf8")) as { options: unknown; model: { moe: { router: unknown } } };
    expect(stored.options).toMatchObject({ steps: 24, warmup: 2, batch: 2 });
    expect(stored.model.moe.router).toMatchObject({ balance: { method: "loss-free" }, zLoss: 0.001 });
  });

  it("refuses to go on with another model, and to write over a run", async () => {
    const another = await cli(["train", "--data", text, "--out", model, ...tiny, "--experts", "8", "--resume"]);
    expect(another).toMatchObject({ code: 2, stderr: expect.stringMatching(/describe another \(moe\.experts: 8, not 4\); leave them out/) });
    const again = await cli(["train", "--data", text, "--out", model, ...tiny]);
    expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining("already holds a run; go on with it (train --resume)") });
    const otherData = join(folder, "other.txt");
    writeFileSync(otherData, "something else. ".repeat(100));
    const data = await cli(["train", "--data", otherData, "--out", model, "--resume", "--steps", "30"]);
    expect(data).toMatchObject({ code: 1, stderr: expect.stringContaining("is not what") });
    expect(data.stderr).not.toContain("to go on from it");
  });

  it("a YAML file has the API's keys, and flags win over it", async () => {
    const config = join(folder, "run.yaml");
    const out = join(folder, "yaml");
    writeFileSync(config, `data: ${text}\nwidth: 16\nlayers: 2\nheads: 2\ncontext: 16\nbatch: 2\nsteps: 6\nlearningRate: 1e-3\ntokenizer: chars\nmoe:\n  experts: 4\n  active: 1\n  hidden: 8\n  layers: every-other\n  balance: { method: switch, coefficient: 0.02 }\n`);
    expect(await cliJson<Trained>("train", "--config", config, "--out", out, "--steps", "5", "--top-k", "2")).toMatchObject({ steps: 5 });
    expect(await cliJson("inspect", out)).toMatchObject({ config: { vocab: 28, moe: { experts: 4, active: 2, hidden: 8 }, sparseLayers: [1] } });
  });

  it("every router and balancing method can be asked for", async () => {
    const combinations = [
      ["--router", "deepseek-v3", "--experts", "8"],
      ["--router", "switch", "--top-k", "1", "--aux-coeff", "0.1"],
      ["--router", "shazeer"],
      ["--router", "expert-choice"],
      ["--router", "gshard", "--capacity-factor", "1.5"],
      ["--balance", "importance", "--shared", "1"],
      ["--balance", "entropy", "--layers-sparse", "first-dense:1"],
      ["--balance", "loss-free", "--bias-rate", "0.01"],
      ["--dense"],
    ];
    for (const [i, flags] of combinations.entries()) {
      const base = flags.includes("--dense") ? tiny.slice(0, tiny.indexOf("--experts")).concat("--batch", "2") : tiny;
      const out = join(folder, `combination-${i}`);
      const next = `npx switchyard generate ${out} "the quick brown"${flags.includes("--dense") ? "" : " --routing"}`;
      expect(await cliJson<Trained>("train", "--data", text, "--out", out, ...base, "--steps", "2", ...flags), flags.join(" ")).toMatchObject({ steps: 2, next });
      expect(await cliJson("generate", out, "the quick", "--max-tokens", "2")).toMatchObject({ tokens: 2 });
    }
  });
});

describe("generate", () => {
  it("gives the same text for the same seed, in JSON and on the terminal", async () => {
    const args = ["generate", model, "the quick", "--max-tokens", "6", "--seed", "3"];
    const result = await cliJson<{ text: string; tokens: number; ids: number[]; tokensPerSecond: number; finish: string }>(...args);
    expect(result).toMatchObject({ tokens: 6, finish: "length" });
    expect(result.ids).toHaveLength(6);
    expect(result.tokensPerSecond).toBeGreaterThan(0);
    const { stdout } = await cli(args);
    expect(stdout).toMatch(/^the quick/);
    expect(stdout.startsWith(`the quick${result.text}`.replace(/\ufffd$/, ""))).toBe(true);
    const other = await cliJson<{ ids: number[] }>(...args.slice(0, -1), "4");
    expect(other.ids).not.toEqual(result.ids);
  });

  it("--routing gives every run token its experts and weights in every layer", async () => {
    const { routing } = await cliJson<{ routing: { text: string; layers: { layer: number; experts: number[]; weights: number[] }[] }[] }>("generate", model, "the", "--max-tokens", "4", "--routing");
    expect(routing).toHaveLength(3 + 3); // the last token was chosen, not run
    expect(routing.slice(0, 3).map((token) => token.text)).toEqual(["t", "h", "e"]);
    for (const { layers } of routing) {
      expect(layers.map(({ layer }) => layer)).toEqual([0, 1]);
      for (const { experts, weights } of layers) {
        expect(new Set(experts).size).toBe(2);
        expect(weights[0]! + weights[1]!).toBeCloseTo(1, 5);
        expect(weights[0]).toBeGreaterThanOrEqual(weights[1]!);
      }
    }
  });

  it("--routing colours the text by expert, or numbers it where there are no colours", async () => {
    const args = ["generate", model, "the fox", "--max-tokens", "4", "--routing", "--layer", "1"];
    const colored = await cli(args, { env: { FORCE_COLOR: "1" } });
    expect(colored.stdout).toMatch(/^(\u001b\[48;5;\d+m\u001b\[38;5;16m.\u001b\[0m){7}/);
    expect(colored.stdout).toMatch(/first expert.*in layer 1.*layer\s+load/s);
    const plain = await cli(args);
    expect(plain.stdout).toMatch(/^t\[\d\]h\[\d\]e\[\d\] f\[\d\]/);
    expect(await cli(["generate", model, "the", "--routing", "--layer", "7"])).toMatchObject({ code: 2, stderr: expect.stringContaining("sparse layers 0, 1") });
    expect(await cli(["generate", model, "the", "--layer", "1"])).toMatchObject({ code: 2, stderr: "switchyard: generate: --layer goes with --routing\n" });
  });

  it("runs a model in a folder whose name ends like that of a file", async () => {
    const named = join(folder, "named.gguf");
    cpSync(model, named, { recursive: true });
    expect(await cliJson("generate", named, "the quick", "--max-tokens", "2")).toMatchObject({ tokens: 2 });
    expect(await cliJson("inspect", named)).toMatchObject({ weights: { files: 1 } });
  });

  it("takes the prompt from standard input", async () => {
    const { stdout } = await cli(["generate", model, "-", "--max-tokens", "1", "--json"], { stdin: "\ufeffthe dog\n" });
    expect(JSON.parse(stdout)).toMatchObject({ prompt: "the dog\n" });
  });

  it.each<[string, string[], number, RegExp]>([
    ["no tokens", ["x", "--max-tokens", "0"], 2, /^switchyard: generate: --max-tokens: expected an integer of at least 1, got 0$/m],
    ["a negative temperature", ["x", "--temperature", "-1"], 2, /^switchyard: sampling: --temperature: expected a number of at least 0, got -1$/m],
    ["a top-k below 0", ["x", "--top-k", "-1"], 2, /sampling: --top-k: expected an integer/],
    ["a penalty that is none", ["x", "--repetition-penalty", "0"], 2, /sampling: --repetition-penalty: expected a number above 0, got 0$/m],
    ["a seed below 0", ["x", "--seed", "-2"], 2, /^switchyard: --seed: expected an integer from 0/],
    ["no threads", ["x", "-t", "0"], 2, /'-t, --threads <n>' argument '0' is invalid. Expected a number of threads from 1 to 256/],
    ["a number in other digits", ["x", "-n", "0x10"], 2, /argument '0x10' is invalid. Expected a decimal number, such as 200, 0\.5 or 1e-3/],
    ["a number that is none", ["x", "-n", ""], 2, /argument '' is invalid. Expected a decimal number/],
    ["a number too large", ["x", "--temp", "1e999"], 2, /argument '1e999' is invalid. Expected a decimal number/],
    ["a file without a name", ["x", "--routing-out", ""], 2, /generate: --routing-out: expected the path of a file or folder, got ""/],
    ["an empty prompt", [""], 2, /prompt is empty/],
    ["a prompt longer than the context", ["x".repeat(40)], 2, /context of 16; shorten it/],
    ["an unknown flag", ["x", "--max-token", "3"], 2, /unknown option '--max-token'/],
  ])("refuses %s", async (_, args, code, message) => {
    const outcome = await cli(["generate", model, ...args]);
    expect(outcome).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(message) });
  });
});

describe("eval and inspect", () => {
  it("loss, perplexity and the load of every layer", async () => {
    const result = await cliJson<{ loss: number; perplexity: number; tokens: number; routing: { maxvio: { mean: number; worst: number }; layers: { layer: number; load: number[] }[] } }>("eval", model, "--data", text);
    expect(result.loss).toBeLessThan(5);
    expect(result.perplexity).toBeCloseTo(Math.exp(result.loss), 6);
    expect(result.tokens).toBe(readFileSync(text).length - 1);
    expect(result.routing.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    for (const { load } of result.routing.layers) expect(load.reduce((a, b) => a + b)).toBeCloseTo(1);
    expect(result.routing.maxvio.worst).toBeGreaterThanOrEqual(result.routing.maxvio.mean);
    expect((await cli(["eval", model, "--data", text])).stdout).toMatch(/^loss \d\.\d{4}, perplexity .*\n\nlayer +load/);
  });

  it("inspect counts, with weights and from config.json alone", async () => {
    // Embedding and head 2 x 256 x 16; per layer attention 4 x 16 x 16, two norms, router 4 x 16, experts of 3 x 16 x 16; a last norm.
    const layer = (experts: number) => 4 * 256 + 2 * 16 + 64 + experts * 3 * 256;
    const parameters = { total: 2 * 4096 + 2 * layer(4) + 16, active: 2 * 4096 + 2 * layer(2) + 16 };
    const whole = await cliJson<{ weights: { bytes: number } }>("inspect", model);
    expect(whole).toMatchObject({ architecture: "MixtralForCausalLM", parameters, weights: { dtypes: ["F32"] }, layers: [{ kind: "sparse", router: expect.stringMatching(/top-k, 2 of 4 experts/) }, {}] });
    expect(whole.weights.bytes).toBeGreaterThan(4 * parameters.total);
    const alone = join(folder, "alone");
    mkdirSync(alone);
    copyFileSync(join(model, "config.json"), join(alone, "config.json"));
    for (const path of [alone, join(alone, "config.json")]) expect(await cliJson("inspect", path)).toMatchObject({ parameters, weights: null });
    expect(await cliJson("inspect", join(model, "checkpoints/step-00000020"))).toMatchObject({ weights: { verified: expect.stringContaining("sha256") } });
  });
});

describe("doctor and help", () => {
  it("names engine, kernels, threads, memory and where the engine came from", async () => {
    const report = await cliJson<{ engine: { isas: string[]; isa: string }; memory: { total: number; limit: number } }>("doctor");
    expect(report).toMatchObject({ node: process.version, engine: { name: expect.any(String), threads: expect.any(Number), source: expect.any(String) } });
    expect(report.engine.isas).toContain(report.engine.isa);
    expect(report.memory.total).toBeGreaterThan(2 ** 27);
    expect(report.memory.limit).toBe(2 ** 40);
    expect((await cli(["doctor"], { memory: 2 ** 26 })).stdout).toContain("at most 64.0 MiB for this process");
  });

  it.each(["train", "generate", "eval", "inspect", "doctor", "build-engine", "demo"])("%s --help has --json and examples", async (command) => {
    const { code, stdout } = await cli([command, "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("--json");
    expect(stdout).toMatch(new RegExp(`Examples:\\n.*switchyard ${command}`, "s"));
  });

  it("help is --help", async () => {
    expect((await cli(["help", "eval"])).stdout).toBe((await cli(["eval", "--help"])).stdout);
    expect(await cli(["help"])).toMatchObject({ code: 0, stdout: expect.stringContaining("switchyard COMMAND --help") });
  });

  it("unknown commands and missing arguments are wrong usage", async () => {
    expect(await cli(["trian"])).toMatchObject({ code: 2, stderr: expect.stringMatching(/unknown command 'trian'.*train/s) });
    expect(await cli(["generate"])).toMatchObject({ code: 2, stderr: expect.stringContaining("missing required argument 'model'") });
    expect(await cli([])).toMatchObject({ code: 2 });
    expect(await cli(["--version"])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});

describe("damaged models", () => {
  const damaged = (name: string, damage: (dir: string) => void) => {
    const dir = join(folder, name);
    mkdirSync(dir);
    for (const file of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(model, file), join(dir, file));
    damage(dir);
    return dir;
  };
  const rewrite = (file: string, change: (content: Buffer) => Buffer) => (dir: string) => writeFileSync(join(dir, file), change(readFileSync(join(dir, file))));

  it.each<[string, (dir: string) => void, RegExp]>([
    ["truncated weights", rewrite("model.safetensors", (b) => b.subarray(0, b.length - 100)), /model\.safetensors/],
    ["a weights header cut off", rewrite("model.safetensors", (b) => b.subarray(0, 40)), /model\.safetensors/],
    ["weights of another shape", rewrite("config.json", (b) => Buffer.from(b.toString().replace('"vocab_size": 256', '"vocab_size": 255'))), /config\.json says \[255, 16\], the file has \[256, 16\]/],
    ["a config cut in half", rewrite("config.json", (b) => b.subarray(0, b.length / 2)), /config\.json/],
    ["an unknown architecture", rewrite("config.json", (b) => Buffer.from(b.toString().replace('"mixtral"', '"gpt9"'))), /unknown model_type "gpt9"/],
    ["no weights", (dir) => rmSync(join(dir, "model.safetensors")), /model\.safetensors/],
    ["a broken tokenizer", rewrite("tokenizer.json", () => Buffer.from("{}")), /tokenizer/],
  ])("%s", async (name, damage, message) => {
    const dir = damaged(name.replaceAll(" ", "-"), damage);
    const outcome = await cli(["generate", dir, "x", "--max-tokens", "2"]);
    expect(outcome).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(message) });
    expect(outcome.stderr).not.toContain("internal error");
  });

  it("a damaged checkpoint is passed over, by name, for the one before", async () => {
    const out = join(folder, "half");
    await cliJson("train", "--data", text, "--out", out, ...tiny, "--checkpoint-every", "10");
    const newest = join(out, "checkpoints/step-00000020/optimizer.safetensors");
    writeFileSync(newest, readFileSync(newest).subarray(0, 500));
    expect(await cli(["inspect", join(out, "checkpoints/step-00000020")])).toMatchObject({ code: 1, stderr: expect.stringMatching(/optimizer\.safetensors: expected \d+ bytes, got 500/) });
    const resumed = await cli(["train", "--data", text, "--out", out, "--resume", "--json"]);
    expect(resumed.stderr).toMatch(/step-00000020\/optimizer\.safetensors.*trying the one before/);
    expect(JSON.parse(resumed.stdout)).toMatchObject({ steps: 20 });
    expect((JSON.parse(resumed.stdout) as Trained).resumedFrom).toBeLessThan(20);
  });
});
