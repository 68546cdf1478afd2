/**
 * One error class and one table of codes. Every message names the operation, what was expected,
 * what was given, and what to do; `docs/errors.md` explains each code (a test ties the two together).
 */
const codes = {
  ERR_SWITCHYARD_USAGE: "A command or call was given options that do not fit together or do not exist.",
  ERR_SWITCHYARD_SHAPE: "Tensors of these shapes cannot be combined by this operation.",
  ERR_SWITCHYARD_DTYPE: "The operation does not work on this element type.",
  ERR_SWITCHYARD_CONFIG: "A model, router or training configuration is inconsistent.",
  ERR_SWITCHYARD_ENGINE: "The compute engine could not be loaded, or refused a call.",
  ERR_SWITCHYARD_MEMORY: "The engine could not get the memory it needs.",
  ERR_SWITCHYARD_FORMAT: "A file is malformed, truncated or of another format.",
  ERR_SWITCHYARD_UNSUPPORTED: "The file or configuration is valid but asks for something Switchyard does not do.",
  ERR_SWITCHYARD_DATA: "The training or evaluation data cannot be used.",
  ERR_SWITCHYARD_CHECKPOINT: "A checkpoint is missing, incomplete or does not match.",
  ERR_SWITCHYARD_IO: "The operating system refused to read or write a file.",
  ERR_SWITCHYARD_DIVERGED: "Training produced non-finite numbers several steps in a row.",
  ERR_SWITCHYARD_ABORTED: "The caller aborted the operation through its AbortSignal.",
} as const;

export type ErrorCode = keyof typeof codes;

/** Code -> one-line meaning. */
export const errorCodes: Readonly<Record<ErrorCode, string>> = codes;

/** Everything that is thrown on purpose; docs/errors.md says of each code what causes it and what to do. */
export class SwitchyardError extends Error {
  override readonly name = "SwitchyardError";
  readonly code: ErrorCode;
  /** Machine-readable particulars: shapes, file, field, ... */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: Record<string, unknown> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** Throws ERR_SWITCHYARD_USAGE for what never says that the caller aborts. */
export function checkSignal(signal: AbortSignal | undefined, operation: string): void {
  check(signal === undefined || typeof signal.aborted === "boolean", "ERR_SWITCHYARD_USAGE", () => `${operation}: signal: expected an AbortSignal, such as the \`signal\` of an AbortController`);
}

/** Throws ERR_SWITCHYARD_ABORTED once the caller has aborted, and as `checkSignal`. */
export function checkAborted(signal: AbortSignal | undefined, operation: string): void {
  checkSignal(signal, operation);
  if (signal?.aborted === true) throw new SwitchyardError("ERR_SWITCHYARD_ABORTED", `${operation}: aborted by the caller`, { cause: signal.reason });
}

/** Throws a `SwitchyardError` unless `condition` holds; the message is built only on failure. */
export function check(condition: boolean, code: ErrorCode, message: () => string): asserts condition {
  if (!condition) throw new SwitchyardError(code, message());
}

/** `check` for several conditions on one thing, which messages begin with. */
export const checker = (code: ErrorCode, subject: string) => (condition: boolean, message: () => string): void => check(condition, code, () => `${subject}: ${message()}`);
