import { createRequire } from "node:module";
import { type MessagePort, Worker } from "node:worker_threads";
import type * as Jinja from "@huggingface/jinja";
import { SwitchyardError } from "../errors.js";

/** What a template may take: milliseconds, and megabytes of JavaScript heap. */
const [limitMs, limitMb] = [200, 64];

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

/** The worker's program. Its source is what runs there: it must not refer to anything outside itself. */
function serve(port: MessagePort, { Environment, Interpreter, parse, tokenize }: typeof Jinja): void {
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
    return { text: String(new Interpreter(globals).run(program).value), words };
  };

  port.on("message", (job: Job) => {
    let answer: Answer;
    try {
      answer = run(job);
    } catch (error) {
      answer = error instanceof Refusal ? { refused: error.message } : { failed: String((error as Error).message) };
    }
    port.postMessage(answer);
  });
  port.postMessage("ready");
}

function startWorker(): Promise<Worker> {
  const library = createRequire(import.meta.url).resolve("@huggingface/jinja");
  const source = `(${serve})(require("node:worker_threads").parentPort, require(${JSON.stringify(library)}))`;
  const worker = new Worker(source, { eval: true, resourceLimits: { maxOldGenerationSizeMb: limitMb - 16, maxYoungGenerationSizeMb: 16 }, env: {}, stdout: true, stderr: true });
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("message", () => {
      worker.off("error", reject);
      worker.unref();
      resolve(worker);
    });
  });
}

/** Waits for its next job; undefined after one that had to be stopped. */
let idle: Promise<Worker> | undefined;
let queue: Promise<unknown> = Promise.resolve();

const unsupported = (message: string, cause?: unknown) => new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `chat template: ${message}`, { cause });

async function ask(job: Job): Promise<Done> {
  const worker = await (idle ??= startWorker());
  worker.ref();
  const answer = await new Promise<Answer>((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      worker.off("error", broken).off("message", done).unref();
    };
    const stop = (error: SwitchyardError) => {
      end();
      idle = undefined;
      worker.on("error", () => undefined);
      void worker.terminate();
      reject(error);
    };
    const done = (message: Answer) => {
      end();
      resolve(message);
    };
    const broken = (cause: Error) => stop(unsupported(`it takes more than ${limitMb} MB for this chat, or broke off; use another template`, cause));
    const timer = setTimeout(() => stop(unsupported(`it takes more than ${limitMs} ms for this chat; use another template`)), limitMs);
    worker.on("error", broken).on("message", done);
    worker.postMessage(job);
  });
  if ("failed" in answer) throw unsupported(`${answer.failed}; use a template without it`);
  if ("refused" in answer) throw new SwitchyardError("ERR_SWITCHYARD_USAGE", `chat: the model's template refuses these messages: ${answer.refused}`);
  return answer;
}

/**
 * Runs a Jinja template in a worker thread, one after another: a model's author wrote it, and it may loop. Throws
 * ERR_SWITCHYARD_UNSUPPORTED when it takes more than 200 ms or 64 MB, or uses what @huggingface/jinja does not know, and
 * ERR_SWITCHYARD_USAGE when the template itself refuses (raise_exception).
 */
export function runTemplate(job: Job): Promise<Done> {
  const result = queue.then(() => ask(job));
  queue = result.catch(() => undefined);
  return result;
}
