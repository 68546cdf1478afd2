import type { Tensor } from "../tensor/tensor.js";

/** An update of AdamW that has been called for but not made; nobody may see its tensors without it. */
interface LateUpdate {
  /** What it reads or writes, the parameter first. */
  tensors: readonly Tensor[];
  /** As the addon takes it. */
  numbers: readonly number[];
  run(): void;
}

/** Those of all native engines of the process, which share its address space. */
let waiting: readonly LateUpdate[] = [];

/**
 * Lets an update wait for the next product with its parameter. An update alone is bound by memory and a product by arithmetic, so that both together take
 * hardly longer than the product. Every other use of one of its tensors makes the update first (`settle`).
 */
export function delay(update: LateUpdate): void {
  waiting = [...waiting, update];
}

/** The update that `param` waits for, as the addon takes it; whoever asks is to make it, which `groupedMatmul` does even when the product fails. */
export function takeUpdate(param: Tensor): readonly number[] | undefined {
  const update = waiting.find(({ tensors: [first] }) => first?.storage === param.storage && first.size === param.size);
  if (update !== undefined) waiting = waiting.filter((other) => other !== update);
  return update?.numbers;
}

/** All of memory, for `settle`. */
export const everything = { storage: 0, bytes: Infinity };

/** Makes the updates that read or write any of a tensor's memory. */
export function settle(memory: Pick<Tensor, "storage" | "bytes">): void {
  if (waiting.length === 0) return;
  const start = memory.storage as number;
  const end = start + memory.bytes;
  const needed = waiting.filter(({ tensors }) => tensors.some((t) => (t.storage as number) < end && start < (t.storage as number) + t.bytes));
  if (needed.length === 0) return;
  waiting = waiting.filter((update) => !needed.includes(update));
  for (const update of needed) update.run();
}
