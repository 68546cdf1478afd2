import { check } from "../../errors.js";

/** How many slots there is room for, given the bytes of the slots in use and the bytes of activations that the process is about to allocate. */
export type Room = (used: number, growth: number) => number;

/** What must be in memory, in bytes. */
export interface Needs {
  /** All parameters but the experts that the cache keeps. */
  dense: number;
  /** A slot of the cache. */
  slot: number;
  /** Experts of one layer, all of which a prompt may need at a time. */
  experts: number;
}

/** Kept free for what the process may grow by before its size is looked at again: results of a prompt's layers, V8's heap. */
export const headroom = 96 * 2 ** 20;
/** Added to a budget that is named to a user: the process may be larger in the run that uses it. */
export const margin = 16 * 2 ** 20;

/**
 * Room for experts in `memory` bytes for the whole process: what is left by the dense part, caches of keys and values, activations and Node
 * itself, as the system counts them. Throws ERR_SWITCHYARD_MEMORY where that is less than one layer needs, naming what would do.
 */
export function processRoom(memory: number, { dense, slot, experts }: Needs): Room {
  check(typeof memory === "number" && memory >= 0, "ERR_SWITCHYARD_USAGE", () => `memory: expected a number of bytes, got ${JSON.stringify(memory)}`);
  const least = process.memoryUsage.rss() + dense;
  const needed = least + headroom + experts * slot;
  check(
    memory >= needed,
    "ERR_SWITCHYARD_MEMORY",
    () =>
      `memory: expected at least ${mebibytes(needed + margin)} MiB: ${mebibytes(dense)} for the dense part, ${mebibytes(experts * slot)} for the ${experts} experts of one layer, ` +
      `${mebibytes(least - dense + headroom)} for Node and activations; got ${Math.floor(memory / 2 ** 20)} MiB`,
  );
  let others = least;
  return (used, growth) => {
    // Not less than at the beginning: of the dense part, what no token has needed yet is not counted by the system.
    others = Math.max(others, Math.max(least, process.memoryUsage.rss() - used) + growth);
    return Math.floor((memory - headroom - others) / slot);
  };
}

const mebibytes = (bytes: number): number => Math.ceil(bytes / 2 ** 20);
