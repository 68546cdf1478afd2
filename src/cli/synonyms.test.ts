import { describe, expect, it } from "vitest";
import { cli } from "../../test/cli.js";

describe("the habits of other programs", () => {
  it.each<[string, string]>([
    ["generate m x --n-predict 3", "Did you mean --max-tokens?"],
    ["generate m x --num_predict=3", "Did you mean --max-tokens?"],
    ["generate m x --max_new_tokens 3", "Did you mean --max-tokens?"],
    ["generate m x --max_tokens=3", "Did you mean --max-tokens?"],
    ["generate m x --repeat-penalty 1.1", "Did you mean --repetition-penalty?"],
    ["generate m x --cache-type-k f16", "Did you mean --kv?"],
    ["generate -m m -p x", 'The model and the prompt are arguments: switchyard generate MODEL "..."'],
    ["-m m --prompt x", 'The model and the prompt are arguments: switchyard generate MODEL "..."'],
    ["generate m -f x.txt", "A prompt of - is read from standard input: switchyard generate MODEL - < FILE"],
    ["generate m Hello world", 'Put the prompt in quotes: switchyard generate MODEL "Once upon a time"'],
    ["eval -m m -f x.txt", "The model is an argument: switchyard eval MODEL"],
    ["eval m -f x.txt", "Did you mean --data?"],
    ["eval m --ctx-size 64", "Did you mean --context?"],
    ["eval m book.txt", "Name text files with --data: switchyard eval MODEL --data FILE"],
    ["train book.txt --out x", "Name text files with --data: switchyard train --data FILE --out DIR"],
    ["train --batch_size=12", "Did you mean --batch?"],
    ["train --block_size=64", "Did you mean --context?"],
    ["train --max_iters=5", "Did you mean --steps?"],
    ["train --max-steps 5", "Did you mean --steps?"],
    ["train --epochs 5", "Did you mean --steps?"],
    ["train --num-experts 4", "Did you mean --experts?"],
    ["train --stesp 5", "Did you mean --steps?"],
    ["run m", "Did you mean generate?"],
    ["chat m", "Did you mean generate?"],
    ["sample m --temp 0", "Did you mean generate?"],
    ["perplexity m", "Did you mean eval?"],
    ["show m", "Did you mean inspect?"],
    ["pull m", "Models are folders or .gguf files, which are named by their paths: switchyard generate MODEL"],
    ["list", "Models are folders or .gguf files, which are named by their paths: switchyard generate MODEL"],
    ["version", "-V or --version prints the version"],
    ["-v", "-V or --version prints the version"],
    ["trian", "Did you mean train?"],
  ])("%s", async (line, meant) => {
    const { code, stdout, stderr } = await cli(line.split(" "));
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    const lines = stderr.split("\n");
    expect(lines).toHaveLength(4); // one guess only
    expect(lines[0]).toMatch(/^switchyard: (unknown (option|command) '|too many arguments)/);
    expect(lines[1]).toBe(`(${meant})`);
    expect(lines[2]).toMatch(/^See: npx switchyard .*--help$/);
  });

  it.each(["generate m x --ctx-size 64", "generate m x -c 64", "inspect m --n-predict 3", "constructor", "__proto__"])("%s means nothing here", async (line) => {
    expect(await cli(line.split(" "))).toMatchObject({ code: 2, stderr: expect.stringMatching(/^switchyard: unknown (option|command) '.*'\nSee: .*\n$/) });
  });

  it("help of a command that does not exist is an unknown command too", async () => {
    for (const name of ["foo", "version", "trian"]) {
      const unknown = await cli([name]);
      for (const args of [["help", name], [name, "--help"], [name, "-h", "--json"], [name, "--version"]]) expect(await cli(args)).toEqual(unknown);
    }
  });

  it.each([["q4_k_m", "q4_k"], ["Q5_K_M", "q5_k"], ["q4_k_s", "q4_k"], ["fp16", "f16"]])("of --type %s the nearest is named: %s", async (given, type) => {
    expect(await cli(["quantize", "m", "--type", given])).toMatchObject({ code: 2, stderr: expect.stringContaining(`argument '${given}' is invalid. Did you mean ${type}? Allowed choices are f32,`) });
  });
});
