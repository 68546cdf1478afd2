import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/** Folder of the package: of src/cli and dist/cli alike. */
export const packageRoot = fileURLToPath(new URL("../../", import.meta.url));

export const { version: packageVersion } = createRequire(import.meta.url)("../../package.json") as { version: string };
