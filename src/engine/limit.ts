import { totalmem } from "node:os";
import { check } from "../errors.js";

/** Bytes of memory that the process may take: the machine's, or fewer where the limit of a container (cgroup) says so. */
export const memoryLimit = (): number => Math.min(totalmem(), process.constrainedMemory() || Infinity);

/** Memory that is only reserved counts for nothing; more than there is, all of it written, and the system ends the process. Throws ERR_SWITCHYARD_MEMORY first. */
export function checkFits(bytes: number, what: string, remedy: string): void {
  const limit = memoryLimit();
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`;
  check(bytes <= limit, "ERR_SWITCHYARD_MEMORY", () => `${what} ${gib(bytes)} of memory, and this process may take ${gib(limit)}; ${remedy}`);
}
