import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { SwitchyardError } from "../../errors.js";
import { packageRoot } from "../version.js";

/** Larger files, the browser's interfaces for example, would drown out the others. */
const largestFile = 2 ** 18;

interface Corpus {
  files: readonly string[];
  bytes: number;
  /** By how much text they gave, most first. */
  packages: readonly string[];
}

/**
 * TypeScript declaration files of the installed packages: real text that is there wherever Switchyard was installed. Their order
 * and choice depend on their contents alone, so that equal packages give equal data on every machine. Throws ERR_SWITCHYARD_DATA.
 */
export function declarationCorpus(wantedBytes: number): Corpus {
  const root = nodeModules();
  const byHash = new Map<string, { path: string; bytes: number; name: string }>();
  for (const path of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    const file = join(root, path);
    if (!path.endsWith(".d.ts") || !statSync(file, { throwIfNoEntry: false })?.isFile()) continue;
    const content = readFileSync(file);
    const parts = path.split(sep);
    const name = parts.slice(0, parts[0]?.startsWith("@") ? 2 : 1).join("/");
    if (content.length > 0 && content.length <= largestFile && !content.includes(0)) byHash.set(createHash("sha256").update(content).digest("hex"), { path: file, bytes: content.length, name });
  }
  const files: string[] = [];
  const perPackage = new Map<string, number>();
  let bytes = 0;
  for (const [, file] of [...byHash].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (bytes >= wantedBytes) break;
    files.push(file.path);
    bytes += file.bytes;
    perPackage.set(file.name, (perPackage.get(file.name) ?? 0) + file.bytes);
  }
  if (files.length === 0) throw new SwitchyardError("ERR_SWITCHYARD_DATA", `demo: no TypeScript declaration files in ${root}; install the packages (npm ci), or train on a text of your own: npx switchyard train --data FILE --out DIR`);
  return { files, bytes, packages: [...perPackage].sort((a, b) => b[1] - a[1]).map(([name]) => name) };
}

/** Of the package, or of the project that it is installed in. */
function nodeModules(): string {
  for (let folder = packageRoot; ; folder = dirname(folder)) {
    const path = join(folder, "node_modules");
    if (existsSync(join(path, "node-api-headers"))) return path;
    if (dirname(folder) === folder) throw new SwitchyardError("ERR_SWITCHYARD_DATA", `demo: no node_modules in or above ${packageRoot}; run npm ci`);
  }
}
