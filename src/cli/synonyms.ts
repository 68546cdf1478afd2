import type { Command } from "commander";

/** Flags of llama.cpp, Ollama, nanoGPT and Hugging Face, and ours of the same meaning, which commands have or not. */
const flags: Readonly<Record<string, string>> = {
  "--n-predict": "--max-tokens",
  "--num-predict": "--max-tokens",
  "--max-new-tokens": "--max-tokens",
  "--repeat-penalty": "--repetition-penalty",
  "--cache-type-k": "--kv",
  "-f": "--data",
  "--file": "--data",
  "-c": "--context",
  "--ctx-size": "--context",
  "--block-size": "--context",
  "--batch-size": "--batch",
  "--max-iters": "--steps",
  "--max-steps": "--steps",
  "--epochs": "--steps",
  "--num-experts": "--experts",
};

const named = (name: string) => Object.fromEntries(["-m", "--model"].map((flag) => [flag, `The model is an argument: switchyard ${name} MODEL`]));
const prompt = 'The model and the prompt are arguments: switchyard generate MODEL "..."';
const input = "A prompt of - is read from standard input: switchyard generate MODEL - < FILE";
const generate = { "-m": prompt, "--model": prompt, "-p": prompt, "--prompt": prompt, "-f": input, "--file": input };
const version = "-V or --version prints the version";
const none = "Models are folders or .gguf files, which are named by their paths: switchyard generate MODEL";

/** Of a command, or of none: what has no flag of the same meaning. */
const sentences: Readonly<Record<string, Readonly<Record<string, string>>>> = { switchyard: { ...generate, "-v": version }, generate, eval: named("eval"), bench: named("bench") };

const commands = new Map(
  Object.entries({
    ...Object.fromEntries(["run", "chat", "sample"].map((name) => [name, "Did you mean generate?"])),
    perplexity: "Did you mean eval?",
    show: "Did you mean inspect?",
    pull: none,
    list: none,
    version,
  }),
);

const texts = "Name text files with --data: switchyard";
const surplus: Readonly<Record<string, string>> = {
  train: `${texts} train --data FILE --out DIR`,
  eval: `${texts} eval MODEL --data FILE`,
  generate: 'Put the prompt in quotes: switchyard generate MODEL "Once upon a time"',
};

/** Commander's message about a line of `command`, with what others call it in place of what is spelled alike. */
export function withSynonym(text: string, command: Command): string {
  const [, kind, typed = ""] = /^error: (unknown option|unknown command|too many arguments)(?: '(.*?)'(?=\n))?/s.exec(text) ?? [];
  const meant = kind === "unknown option" ? flagMeant(typed, command) : kind === "unknown command" ? commands.get(typed) : kind === undefined ? undefined : surplus[command.name()];
  return meant === undefined ? text : `${text.replace(/\n\(Did you mean .*$/s, "\n")}(${meant})\n`;
}

function flagMeant(typed: string, command: Command): string | undefined {
  const flag = typed.replace(/=.*/s, "").replaceAll("_", "-");
  const ours = flags[flag] ?? flag;
  return sentences[command.name()]?.[flag] ?? (command.options.some(({ short, long }) => ours === short || ours === long) ? `Did you mean ${ours}?` : undefined);
}
