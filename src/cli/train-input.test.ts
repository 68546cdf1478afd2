import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cli, tiny } from "../../test/cli.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-train-input-"));
const text = join(folder, "text.txt");
writeFileSync(text, "the quick brown fox jumps over the lazy dog. ".repeat(60));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("bad input to train: a clear error, the right exit code, nothing left behind", () => {
  const out = join(folder, "bad");
  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  it.each<[string, () => string[], number, RegExp]>([
    ["an unknown size", () => ["--data", text, "--size", "huge"], 2, /'huge' is invalid. Allowed choices are xs, s, m/],
    ["a top-k above the experts", () => ["--data", text, "--experts", "4", "--top-k", "5"], 2, /top-k\) must be between 1 and the 4 experts, got 5/],
    ["heads that do not divide the width", () => ["--data", text, "--width", "130"], 2, /the width \(130\) must be an even multiple of the heads \(4\)/],
    ["no sparse layer", () => ["--data", text, "--layers-sparse", "first-dense:4"], 2, /none of the 4 layers is sparse; choose others, or a dense model/],
    ["a batch that no memory holds", () => ["--data", text, "--batch", "100000000"], 2, /at most 268435456 tokens, got 100000000 sequences of 128/],
    ["steps in parts", () => ["--data", text, "--steps", "1.5"], 2, /train: --steps: expected an integer of at least 1, got 1\.5$/m],
    ["steps in other digits", () => ["--data", text, "--steps", "0x10"], 2, /argument '0x10' is invalid. Expected a decimal number/],
    ["settings without a name", () => ["--config", ""], 2, /train: --config: expected the path of a file or folder, got ""/],
    ["a negative seed", () => ["--data", text, "--seed", "-1"], 2, /--seed: .*got -1/],
    ["a seed too large", () => ["--data", text, "--seed", "9007199254740993"], 2, /--seed/],
    ["a seed that is no number", () => ["--data", text, "--seed", "many"], 2, /--seed <n>' argument 'many' is invalid/],
    ["no data", () => [], 2, /no data; name text files/],
    ["flags of experts on a dense model", () => ["--data", text, "--dense", "--top-k", "2"], 2, /--dense has no experts; remove it or --top-k/],
    ["a last rate above the peak", () => ["--data", text, "--learning-rate", "0.001", "--min-learning-rate", "1"], 2, /train: --min-learning-rate: expected at most the learning rate of 0.001, got 1/],
    ["a vocabulary for bytes", () => ["--data", text, "--vocab", "300"], 2, /--vocab does nothing for the tokenizer bytes/],
    ["a place for no shared expert", () => ["--data", text, "--shared-combine", "add"], 2, /--shared-combine does nothing without a shared expert/],
    ["a decay of another schedule", () => ["--data", text, "--decay-steps", "5"], 2, /decaySteps does nothing for schedule "cosine"; choose wsd/],
    ["a coefficient for a method without", () => ["--data", text, "--balance", "none", "--aux-coeff", "1"], 2, /--aux-coeff does nothing for balance "none"/],
    ["no bias rate", () => ["--data", text, "--balance", "loss-free", "--bias-rate", "0"], 2, /'--bias-rate <n>' argument '0' is invalid. Expected a number above 0/],
    ["a negative coefficient", () => ["--data", text, "--aux-coeff", "-1"], 2, /'--aux-coeff <n>' argument '-1' is invalid. Expected a number of at least 0/],
    ["a capacity factor on a dense model", () => ["--data", text, "--dense", "--capacity-factor", "1"], 2, /--capacity-factor is for mixture/],
    ["a warm-up longer than the run", () => ["--data", text, "--steps", "5", "--warmup", "9"], 2, /9 steps of warm-up do not fit into 5;/],
    ["a misspelled key in YAML", () => ["--data", text, "--config", file("a.yaml", "learning_rate: 1e-3\n")], 2, /a\.yaml: unknown key "learning_rate"; did you mean "learningRate"\?/],
    ["a misspelled nested key in YAML", () => ["--data", text, "--config", file("b.yaml", "moe:\n  router:\n    selectoin: top-k\n")], 2, /unknown key "moe.router.selectoin"; did you mean "selection"\?/],
    ["a wrong value in YAML", () => ["--data", text, "--config", file("c.yaml", "moe:\n  experts: many\n")], 2, /c\.yaml: moe\.experts: .*got "many"/],
    ["broken YAML", () => ["--data", text, "--config", file("d.yaml", "a: [1,\n")], 2, /d\.yaml: not valid YAML: .*line/],
    ["a missing YAML file", () => ["--data", text, "--config", join(folder, "no.yaml")], 1, /no\.yaml: ENOENT/],
    ["an unknown tokenizer", () => ["--data", text, "--tokenizer", "words"], 2, /expected bytes, chars, bpe or a folder/],
    ["a missing data file", () => ["--data", join(folder, "nowhere.txt")], 1, /nowhere\.txt does not exist; check the path/],
    ["a data file without a name", () => ["--data", ""], 2, /^switchyard: data: an empty path; name text files or folders$/m],
    ["an empty data file", () => ["--data", file("empty.txt", "")], 1, /no text in .*empty\.txt/],
    ["a binary data file", () => ["--data", file("x.bin", new Uint8Array([1, 0, 2, 255]))], 1, /x\.bin is not text/],
    ["data shorter than the context", () => ["--data", file("short.txt", "too short")], 1, /8 tokens for training are fewer than one sequence of context \+ 1 = 129; give more text or a smaller context/],
    ["resuming without a checkpoint", () => ["--data", text, "--resume"], 1, /no checkpoint in/],
    ["a folder that no file system takes", () => ["--data", text, ...tiny, "--out", "/proc/switchyard/run"], 1, /create \/proc\/switchyard\/run: E/],
    ["a folder without a name", () => ["--data", text, "--out", ""], 2, /no folder for the model/],
    ["a folder that is a file", () => ["--data", text, ...tiny, "--out", "/dev/null"], 1, /write in \/dev\/null: ENOTDIR/],
  ])("%s", async (_, args, code, message) => {
    const outcome = await cli(["train", "--out", out, ...args()]);
    expect(outcome).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(message) });
    expect(outcome.stderr.split("\n").findLast((line) => line.startsWith("switchyard: "))).toBeDefined();
    expect(outcome.stderr).not.toMatch(/^ +at /m);
    expect(existsSync(out)).toBe(false);
  });

  it("a demo into the folder of a run is refused before it prepares anything", async () => {
    const taken = join(folder, "taken");
    mkdirSync(join(taken, "checkpoints/step-00000001"), { recursive: true });
    expect(await cli(["demo", "--out", taken])).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("taken already holds a run; go on with it (train --resume), or choose another folder") });
  });

  it("SWITCHYARD_DEBUG=1 shows where an error came from", async () => {
    const { stderr } = await cli(["inspect", join(folder, "nowhere")], { env: { SWITCHYARD_DEBUG: "1" } });
    expect(stderr).toMatch(/^switchyard: inspect: .*nowhere.*\n.*\n? +at /s);
  });
});
