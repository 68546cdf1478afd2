import { type ErrorCode, SwitchyardError } from "../../src/errors.js";
import type { Random } from "../../src/tensor/random.js";

/** A reader under test. */
export interface Target {
  /** What it feeds to what. */
  about: string;
  /** Makes an input of `random` and reads it. True: accepted, and all that the reader promises holds; false: refused as it should be. Throws otherwise. */
  run(random: Random): boolean;
  /** Runs a batch of inputs, for what is too costly around each of them. */
  around?(batch: () => void): void;
}

/** What `action` returns, or undefined if it refuses the input: with one of `codes` and a message that starts with `source`. */
export function accepted<T>(action: () => T, codes: readonly ErrorCode[], source: string): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof SwitchyardError && codes.includes(error.code) && error.message.startsWith(source) && error.message.length < 4096) return undefined;
    throw error;
  }
}

/** A `what` that is costly to say is a function. */
export function ensure(condition: boolean, what: string | (() => string)): void {
  if (!condition) throw new Error(`broken promise: ${typeof what === "string" ? what : what()}`);
}
