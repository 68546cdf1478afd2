import vm from "node:vm";

const context = vm.createContext({});
const script = new vm.Script("action()");
let limited = false;

export const timeoutCode = "ERR_SCRIPT_EXECUTION_TIMEOUT";

/**
 * What `action` returns. After `ms` milliseconds it is stopped wherever it is, in a regular expression too: throws an error with the code
 * `timeoutCode`. `again`: once more with more time on a busy machine, where the process did not get half of it. Inside another call the limit
 * of that one holds, since each takes a thread that watches.
 */
export function withTimeLimit<T>(ms: number, action: () => T, again = false): T {
  if (limited) return action();
  limited = true;
  const usage = process.cpuUsage();
  try {
    context["action"] = action;
    return script.runInContext(context, { timeout: Math.ceil(ms) }) as T;
  } catch (error) {
    const { user, system } = process.cpuUsage(usage);
    if (!again || (error as NodeJS.ErrnoException).code !== timeoutCode || (user + system) / 1000 >= ms / 2) throw error;
  } finally {
    limited = false;
  }
  return withTimeLimit(6 * ms, action);
}
