import { check, SwitchyardError } from "../errors.js";
import { checkOptions } from "../options.js";
import { type Guard, guardOf, StandIns } from "./stand-ins.js";
import { runTemplate } from "./template-process.js";
import { IdList } from "./merge.js";
import type { Tokenizer } from "./tokenizer.js";
import { anyOf } from "./vocabulary.js";

/** Who may speak. A role is part of a template's own text, as in "<|user|>", so it is one of these and nothing else. */
const chatRoles = ["system", "developer", "user", "assistant", "tool", "function", "ipython", "observation"] as const;

/** A message as transformers and OpenAI's API have it; every other field is handed to the template too (`name`, `tool_calls`, ...). */
export interface ChatMessage {
  role: (typeof chatRoles)[number];
  content?: unknown;
  [field: string]: unknown;
}

/** What beside the messages a template may know. */
export interface ChatOptions {
  /** Descriptions of functions, as in OpenAI's API. */
  tools?: readonly unknown[] | undefined;
  /** Texts to answer from: objects with `title` and `text`. */
  documents?: readonly unknown[] | undefined;
  /** Ends the prompt where the answer begins. Default true. */
  addGenerationPrompt?: boolean | undefined;
  /** Whether a reasoning model thinks first. Default: the template's. */
  thinking?: boolean | undefined;
  /** How long a reasoning model thinks, as gpt-oss has it. Default: the template's. */
  reasoningEffort?: "low" | "medium" | "high" | undefined;
  /** Which of several templates. Default: "tool_use" with tools, if there is one, else "default". */
  template?: string | undefined;
  /** What templates that tell the date tell. Default: the present. */
  date?: Date | undefined;
}

const chatOptions: Record<keyof ChatOptions, true> = { tools: true, documents: true, addGenerationPrompt: true, thinking: true, reasoningEffort: true, template: true, date: true };

/** What depends on tokenizer and template alone. */
interface Prepared {
  guard: Guard;
  special: RegExp | undefined;
}
const prepared = new WeakMap<Tokenizer, Map<string, Prepared>>();

async function prepare(tokenizer: Tokenizer, template: string): Promise<Prepared> {
  const known = prepared.get(tokenizer) ?? new Map<string, Prepared>();
  prepared.set(tokenizer, known);
  const found = known.get(template);
  if (found !== undefined) return found;
  const special = [...tokenizer.special.keys()].filter((token) => token.trim() !== "");
  const { words } = await runTemplate({ template });
  const made = { guard: guardOf(special, words), special: anyOf(special) };
  known.set(template, made);
  return made;
}

/**
 * The ids of a chat by its model's template, without the tokenizer's prefix: templates say it themselves. Special tokens are what
 * the template itself writes; what stands in messages, tools and documents is never one, see `StandIns`. Throws
 * ERR_SWITCHYARD_USAGE for options that are none and messages that are none or that the template refuses, ERR_SWITCHYARD_UNSUPPORTED for a model without a
 * template or with one that cannot be run, ERR_SWITCHYARD_DATA for text that the tokenizer cannot take.
 */
export async function encodeChat(tokenizer: Tokenizer, messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Int32Array> {
  checkOptions("chat", options, chatOptions);
  const { tools, documents, addGenerationPrompt = true, thinking, reasoningEffort, date = new Date() } = options;
  checkMessages(messages);
  const template = chooseTemplate(tokenizer, options);
  const { guard, special } = await prepare(tokenizer, template);
  const standIns = new StandIns(guard, template + asJson([messages, tools, documents]));
  const textOf = (id: number | undefined) => [...tokenizer.special].find(([, other]) => other === id)?.[0] ?? "";
  const values = {
    messages: messages.map(({ role, ...rest }, i) => Object.assign({ role }, standIns.hide(rest, `messages[${i}]`))),
    tools: tools === undefined ? null : standIns.hide(tools, "tools"),
    documents: documents === undefined ? null : standIns.hide(documents, "documents"),
    add_generation_prompt: addGenerationPrompt,
    bos_token: textOf(tokenizer.bosId),
    eos_token: textOf(tokenizer.eosId),
    ...(thinking === undefined ? {} : { enable_thinking: thinking, thinking }),
    ...(reasoningEffort === undefined ? {} : { reasoning_effort: reasoningEffort }),
  };
  const { text } = await runTemplate({ template, values, now: date.getTime() });
  return encodeRendered(tokenizer, text, special, (part) => standIns.show(part));
}

function asJson(given: unknown): string {
  try {
    return JSON.stringify(given);
  } catch (cause) {
    throw new SwitchyardError("ERR_SWITCHYARD_USAGE", `chat: expected JSON values in messages, tools and documents: ${(cause as Error).message.split("\n")[0]}`, { cause });
  }
}

function checkMessages(messages: readonly ChatMessage[]): void {
  check(Array.isArray(messages) && messages.length > 0, "ERR_SWITCHYARD_USAGE", () => "chat: expected a list of messages with at least one");
  for (const [i, message] of messages.entries()) {
    const role: unknown = (message as ChatMessage | null)?.role;
    check((chatRoles as readonly unknown[]).includes(role), "ERR_SWITCHYARD_USAGE", () => `chat: messages[${i}].role: expected one of ${chatRoles.join(", ")}, got ${JSON.stringify(role)}`);
  }
}

function chooseTemplate({ chatTemplates = {} }: Tokenizer, { template, tools }: ChatOptions): string {
  const names = Object.keys(chatTemplates);
  check(names.length > 0, "ERR_SWITCHYARD_UNSUPPORTED", () => "chat: the model has no chat template; give it a prompt, or put a chat_template.jinja into its folder");
  const name = template ?? (tools !== undefined && Object.hasOwn(chatTemplates, "tool_use") ? "tool_use" : "default");
  check(Object.hasOwn(chatTemplates, name), "ERR_SWITCHYARD_USAGE", () => `chat: the model has no template ${JSON.stringify(name)}; it has ${names.join(", ")}`);
  return chatTemplates[name] as string;
}

/** Ids of text in which special tokens count; `show` gives what other parts of it mean. */
function encodeRendered(tokenizer: Tokenizer, text: string, special: RegExp | undefined, show: (part: string) => string): Int32Array {
  const ids = new IdList();
  let [end, stripStart] = [0, false];
  const part = (to: number, stripEnd: boolean) => {
    let piece = text.slice(end, to);
    if (stripStart) piece = piece.trimStart();
    if (stripEnd) piece = piece.trimEnd();
    if (piece !== "") ids.push(tokenizer.encode(show(piece), { continued: end > 0 }));
  };
  for (const { index, 0: token } of special === undefined ? [] : text.matchAll(special)) {
    const strips = tokenizer.strips?.get(token);
    part(index, strips?.left ?? false);
    ids.push([tokenizer.special.get(token) as number]);
    [end, stripStart] = [index + token.length, strips?.right ?? false];
  }
  part(text.length, false);
  return ids.all();
}
