import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Name and folder of every golden checkpoint: in $SWITCHYARD_GOLDENS, or beside the checkout; none where there are none. */
export function goldenFolders(): [name: string, folder: string][] {
  const root = process.env["SWITCHYARD_GOLDENS"] ?? fileURLToPath(new URL("../../../../../shared/goldens", import.meta.url));
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .filter((name) => existsSync(join(root, name, "golden.json")))
    .map((name) => [name, join(root, name)]);
}
