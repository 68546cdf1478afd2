import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const mounted = "/sys/fs/cgroup";

/** A limit on all that a process has in memory, the page cache that it fills included: a memory cgroup of Linux, of version 1 or 2. Only root makes one. */
export class MemoryCgroup {
  private readonly folder: string;
  private readonly unified = existsSync(join(mounted, "cgroup.controllers"));

  constructor(bytes: number) {
    if (this.unified) writeFileSync(join(mounted, "cgroup.subtree_control"), "+memory");
    this.folder = join(mounted, this.unified ? "" : "memory", `switchyard-${process.pid}-${bytes}`);
    mkdirSync(this.folder);
    writeFileSync(join(this.folder, this.unified ? "memory.max" : "memory.limit_in_bytes"), String(bytes));
  }

  /** A command that enters the group and becomes this one. */
  wrap(command: readonly string[]): [string, ...string[]] {
    return ["sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, this.folder, ...command];
  }

  /** Bytes at most so far. */
  get peak(): number {
    return Number(readFileSync(join(this.folder, this.unified ? "memory.peak" : "memory.max_usage_in_bytes"), "utf8"));
  }

  /** Once its processes have ended. */
  [Symbol.dispose](): void {
    rmdirSync(this.folder);
  }
}

/** Gives the memory of files that no process has mapped back: whoever reads them next is charged for it, and has it in pieces of its own. Root only: for others nothing happens. */
export function dropPageCache(): void {
  if (process.getuid?.() === 0) writeFileSync("/proc/sys/vm/drop_caches", "1");
}
