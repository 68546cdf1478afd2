import { memoryLimit } from "../engine/limit.js";
import { ownArchitecture } from "../model/own-gguf.js";
import type { Environment, TextStream } from "../train/log/format.js";

/** Where a command reads and writes: the process, or a stand-in. Results go to stdout, everything else to stderr. */
export interface Io {
  stdout: TextStream;
  stderr: TextStream;
  stdin: AsyncIterable<string | Uint8Array>;
  env: Environment;
  /** Bytes of memory that the process may take. */
  memory: number;
  /** What the process will exit with if nothing fails. */
  exitCode: number;
}

export function processIo(): Io {
  return { stdout: process.stdout, stderr: process.stderr, stdin: process.stdin, env: process.env, memory: memoryLimit(), exitCode: 0 };
}

/** The one document of `--json`. JSON has no NaN: it becomes null. */
export function printJson(io: Io, value: unknown): void {
  io.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** Numbers as people read them: 1234567 -> "1,234,567". */
export const grouped = (n: number): string => n.toLocaleString("en");

/** "1 thread", "2 threads" */
export const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

/** Says what a written model cannot do. */
export function noteWritten(io: Io, { target, tokenizer, architecture }: { target: string; tokenizer: boolean; architecture: string | null }): void {
  if (!tokenizer) io.stderr.write(`switchyard: ${target} has no tokenizer: only weights and configuration were written\n`);
  if (architecture === ownArchitecture) io.stderr.write(`switchyard: ${target}: no architecture of GGUF expresses this model, so only Switchyard reads the file\n`);
}

/** Exit code of a program that a signal ended, as shells have it. */
const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Turns the first Ctrl-C (or SIGTERM) into an abort, so that the command can finish what it is at; the second ends the process at
 * once. Until disposed.
 */
export function onInterrupt(io: Io, announce: () => void = () => void io.stderr.write("switchyard: stopping; Ctrl-C again to stop at once\n")): { signal: AbortSignal; [Symbol.dispose](): void } {
  const controller = new AbortController();
  const handle = (name: keyof typeof exitCodes): void => {
    if (controller.signal.aborted) process.exit(exitCodes[name]);
    controller.abort();
    io.exitCode = exitCodes[name];
    announce();
  };
  const names = Object.keys(exitCodes) as (keyof typeof exitCodes)[];
  for (const name of names) process.on(name, handle);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const name of names) process.off(name, handle);
    },
  };
}

/** An argument as a POSIX shell takes it. */
export const quote = (text: string): string => (/^[\w./:=@%+-]+$/.test(text) ? text : /^[^"$`\\!]*$/.test(text) ? `"${text}"` : `'${text.replaceAll("'", "'\\''")}'`);
