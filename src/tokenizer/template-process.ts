import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type * as Vm from "node:vm";
import type * as Jinja from "@huggingface/jinja";
import { SwitchyardError } from "../errors.js";

/** What a template may take: milliseconds, megabytes of JavaScript heap, and characters of its text. */
const [limitMs, limitMb, limitText] = [200, 64, 2 ** 23];

interface Job {
  template: string;
  /** Variables of the template; undefined: it is only read. */
  values?: Readonly<Record<string, unknown>> | undefined;
  /** What strftime_now tells, in ms since 1970. */
  now?: number | undefined;
}

interface Done {
  /** What the template says. */
  text: string;
  /** String literals and names in its code. */
  words: string[];
}

type Answer = Done | { refused: string } | { failed: string };

/** The program of the process. Its source is what runs there: it must not refer to anything outside itself. `ms`: a job ends by itself after that, should the parent be gone. */
function serve({ Environment, Interpreter, parse, tokenize }: typeof Jinja, vm: typeof Vm, limits: { ms: number; text: number }): void {
  class Refusal extends Error {}

  const months = "January February March April May June July August September October November December".split(" ");
  const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
  const strftime = (format: string, date: Date): string => {
    const two = (n: number) => String(n).padStart(2, "0");
    const [month, day] = [months[date.getMonth()] as string, days[date.getDay()] as string];
    const codes: Record<string, string> = {
      Y: String(date.getFullYear()), m: two(date.getMonth() + 1), d: two(date.getDate()), H: two(date.getHours()), M: two(date.getMinutes()), S: two(date.getSeconds()),
      B: month, b: month.slice(0, 3), A: day, a: day.slice(0, 3), "%": "%",
    };
    return format.replaceAll(/%(.)/g, (whole, code: string) => codes[code] ?? whole);
  };

  const run = ({ template, values, now }: Job): Done => {
    const tokens = tokenize(template, { lstrip_blocks: true, trim_blocks: true });
    const words = tokens.filter(({ type }: { type: string }) => type === "StringLiteral" || type === "Identifier").map(({ value }: { value: string }) => value);
    const program = parse(tokens);
    if (values === undefined) return { text: "", words };
    const globals = new Environment();
    const raise = (message: unknown) => {
      throw new Refusal(String(message));
    };
    // As transformers and Jinja have them; `range` is what it costs that is limited.
    const range = (start: number, stop?: number, step = 1) => {
      const [from, to] = stop === undefined ? [0, start] : [start, stop];
      return Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step);
    };
    const known = { true: true, True: true, false: false, False: false, none: null, None: null, raise_exception: raise, range, strftime_now: (format: string) => strftime(format, new Date(now ?? 0)) };
    for (const [name, value] of Object.entries({ ...known, ...values })) globals.set(name, value);
    const text = String(new Interpreter(globals).run(program).value);
    if (text.length > limits.text) throw new Error(`its text has ${text.length} characters, more than ${limits.text}`);
    return { text, words };
  };

  process.on("message", (job: Job) => {
    let answer: Answer;
    try {
      answer = vm.runInNewContext("run()", { run: () => run(job) }, { timeout: limits.ms }) as Done;
    } catch (error) {
      answer = error instanceof Refusal ? { refused: error.message } : { failed: String((error as Error).message) };
    }
    process.send?.(answer);
  });
  process.send?.("ready");
}

function startProcess(): Promise<ChildProcess> {
  const library = createRequire(import.meta.url).resolve("@huggingface/jinja");
  const source = `(${serve})(require(${JSON.stringify(library)}), require("node:vm"), { ms: ${100 * limitMs}, text: ${limitText} })`;
  const child = spawn(process.execPath, [`--max-old-space-size=${limitMb}`, "--eval", source], { stdio: ["ignore", "ignore", "ignore", "ipc"], env: {} });
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown) => reject(new SwitchyardError("ERR_SWITCHYARD_IO", `chat template: the process that runs templates could not be started (${String(cause)}); check the limits on processes and memory`, { cause }));
    child.once("error", failed).once("exit", failed);
    child.once("message", () => {
      child.off("error", failed).off("exit", failed);
      child.on("error", () => undefined);
      resolve(child);
    });
  });
}

/** Whether a process keeps this one alive. */
function hold(child: ChildProcess, alive: boolean): void {
  child[alive ? "ref" : "unref"]();
  child.channel?.[alive ? "ref" : "unref"]();
}

/** Processor time that a process has taken, in ms, as Linux tells it (proc(5)); elsewhere undefined. */
function processorTime(pid: number | undefined): number | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ") ?? [];
    return 10 * (Number(fields[11]) + Number(fields[12]));
  } catch {
    return undefined;
  }
}

/** Waits for its next job, unless it had to be stopped. */
let idle: ChildProcess | undefined;
let queue: Promise<unknown> = Promise.resolve();

const unsupported = (message: string) => new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `chat template: ${message}`);

async function ask(job: Job): Promise<Done> {
  const child = idle?.connected === true ? idle : await startProcess();
  idle = child;
  hold(child, true);
  const answer = await new Promise<Answer>((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      child.off("exit", broken).off("message", done);
      hold(child, false);
    };
    const stop = (error: SwitchyardError) => {
      end();
      idle = undefined;
      child.kill("SIGKILL");
      reject(error);
    };
    const done = (message: Answer) => {
      end();
      resolve(message);
    };
    const broken = () => stop(unsupported(`it takes more than ${limitMb} MB for this chat; use another template`));
    const before = processorTime(child.pid);
    let waits = 0;
    const expired = () => {
      // On a busy machine it may not have had its time yet.
      const used = (processorTime(child.pid) ?? Infinity) - (before ?? 0);
      if (used < limitMs && ++waits < 20) timer.refresh();
      else stop(unsupported(`it takes more than ${limitMs} ms for this chat; use another template`));
    };
    const timer = setTimeout(expired, limitMs);
    child.on("exit", broken).on("message", done);
    child.send(job, (error) => {
      if (error !== null) broken();
    });
  });
  if ("failed" in answer) throw unsupported(`${answer.failed}; use another template`);
  if ("refused" in answer) throw new SwitchyardError("ERR_SWITCHYARD_USAGE", `chat: the model's template refuses these messages: ${answer.refused}`);
  return answer;
}

/**
 * Runs a Jinja template in a process of its own, one after another: a model's author wrote it, and it may loop or fill the memory.
 * (A worker thread's heap limit does not hold: one allocation beyond it ends the whole process.) Throws
 * ERR_SWITCHYARD_UNSUPPORTED when it takes more than 200 ms or 64 MB, or uses what @huggingface/jinja does not know, and
 * ERR_SWITCHYARD_USAGE when the template itself refuses (raise_exception).
 */
export function runTemplate(job: Job): Promise<Done> {
  const result = queue.then(() => ask(job));
  queue = result.catch(() => undefined);
  return result;
}
