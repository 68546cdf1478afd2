import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** A file or folder is written beside its place and named when it is complete; what stood there stays beside it for that moment. A claim says that a process works on it. */
export type SiblingKind = "new" | "old" | "claim";

/** Siblings that this process is working with. */
const active = new Set<string>();

let removesActive = false;

/** A process that ends at once, as after a second Ctrl-C, leaves nothing that only it knows of; "old" is the only copy for a moment. */
function removeActive(): void {
  for (const path of active) if (!/\.old-\d+-[0-9a-f]{8}$/.test(path)) rmSync(path, { recursive: true, force: true });
}

/** `.name.kind-pid-random` beside `path`, active until `release` is called; the pid tells others whether its writer still lives. */
export function sibling(path: string, kind: SiblingKind): { path: string; release: () => void } {
  const own = join(dirname(path), `.${basename(path)}.${kind}-${process.pid}-${randomBytes(4).toString("hex")}`);
  if (!removesActive) process.on("exit", removeActive);
  removesActive = true;
  active.add(own);
  return { path: own, release: () => active.delete(own) };
}

/** Which sibling of what name `path` is, if its writer is dead. */
export function abandoned(path: string): { of: string; kind: SiblingKind } | undefined {
  const [, of, kind, pid] = /^\.(.+)\.(new|old|claim)-(\d+)-[0-9a-f]{8}$/s.exec(basename(path)) ?? [];
  return of === undefined || isWriting(path, Number(pid)) ? undefined : { of, kind: kind as SiblingKind };
}

/** A new process may have the number of the dead one, always so in containers. */
function isWriting(path: string, pid: number): boolean {
  if (pid === process.pid) return active.has(path);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
