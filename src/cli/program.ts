import { Command, CommanderError } from "commander";
import { SwitchyardError } from "../errors.js";
import { ioError } from "../formats/io.js";
import { benchCommand } from "./bench.js";
import { buildEngineCommand } from "./build-engine.js";
import { convertCommand } from "./convert.js";
import { demoCommand } from "./demo.js";
import { doctorCommand } from "./doctor.js";
import { evalCommand } from "./eval.js";
import { generateCommand } from "./generate.js";
import { inspectCommand } from "./inspect.js";
import { type Io, processIo } from "./io.js";
import { makeModelCommand } from "./make-model.js";
import { quantizeCommand } from "./quantize.js";
import { withSynonym } from "./synonyms.js";
import { trainCommand } from "./train.js";
import { verifyCommand } from "./verify.js";
import { packageVersion } from "./version.js";

const exitCode = { failure: 1, usage: 2 } as const;

/** Runs one command line and returns the exit code: 0, 2 for a wrong command line, 1 for everything else that fails. */
export async function run(args: readonly string[], io: Io = processIo()): Promise<number> {
  const root = program(io);
  try {
    // Commander helps with everything: of a command that does not exist there is no help.
    const [name] = args[0] === "help" ? args.slice(1) : args;
    const isNone = name !== undefined && !name.startsWith("-") && !root.commands.some((each) => each.name() === name);
    await root.parseAsync(isNone ? [name] : args, { from: "user" });
    return io.exitCode;
  } catch (error) {
    // Commander has printed its message; help and version are no errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCode.usage;
    const known = ioError("file", "", error);
    const expected = known instanceof SwitchyardError;
    const interrupted = expected && known.code === "ERR_SWITCHYARD_ABORTED" && io.exitCode !== 0;
    const command = root.commands.find((each) => each.name() === args[0]);
    io.stderr.write(`switchyard: ${expected ? withFlag(known, command) : `internal error: ${String((error as Error)?.message ?? error)}`}\n`);
    if (io.env["SWITCHYARD_DEBUG"]) io.stderr.write(`${(error as Error)?.stack}\n`);
    else if (!expected) io.stderr.write("Please report it with the output of the same command after: export SWITCHYARD_DEBUG=1\n");
    if (interrupted) return io.exitCode;
    return expected && known.code === "ERR_SWITCHYARD_USAGE" ? exitCode.usage : exitCode.failure;
  }
}

/** The message of an error, which names an option as the API does ("generate: maxTokens: ...", "seed: expected ..."), with the flag that was typed. */
function withFlag({ code, message }: SwitchyardError, command: Command | undefined): string {
  if (code !== "ERR_SWITCHYARD_USAGE") return message;
  return message.replace(/^(\w+: )?(\w+)(?=: expected )/, (named, operation = "", name: string) => {
    const flag = command?.options.find((option) => option.attributeName() === name)?.long;
    return flag === undefined ? named : operation + flag;
  });
}

function program(io: Io): Command {
  const root = new Command("switchyard")
    .description("Trains, runs and explains mixture-of-experts language models on your own CPU.")
    .version(packageVersion, "-V, --version")
    .showSuggestionAfterError()
    .addHelpText("after", rootHelp)
    .hook("preAction", (_, command) => {
      const { threads } = command.opts<{ threads?: number }>();
      if (threads !== undefined) process.env["SWITCHYARD_THREADS"] = String(threads); // for whatever loads an engine
    });
  const commands = [trainCommand, generateCommand, evalCommand, inspectCommand, verifyCommand, benchCommand, quantizeCommand, convertCommand, makeModelCommand, doctorCommand, buildEngineCommand, demoCommand];
  for (const create of commands) root.addCommand(create(io));
  for (const command of [root, ...root.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHelpWidth: () => Math.min(io.stdout.columns ?? 100, 120),
      getErrHelpWidth: () => Math.min(io.stderr.columns ?? 100, 120),
      outputError: (text, write) => write(`switchyard: ${withSynonym(text, command).replace(/^error: /, "")}See: npx switchyard ${command === root ? "" : `${command.name()} `}--help\n`),
    });
  }
  return root;
}

const rootHelp = `
Examples:
  switchyard train --data book.txt --out runs/first       train a small model in about a minute
  switchyard generate runs/first "Once upon a time"       let it write
  switchyard generate runs/first "Once" --routing         and see which expert took which token
  switchyard COMMAND --help                               everything that a command can do

Environment: SWITCHYARD_ENGINE (native, reference), SWITCHYARD_ISA, SWITCHYARD_THREADS, SWITCHYARD_DEBUG=1 (stack traces),
NO_COLOR, FORCE_COLOR. Exit codes: 0, 1 (failed), 2 (wrong command line), 130 (Ctrl-C), 143 (SIGTERM).`;
