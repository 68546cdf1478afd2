import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, it, vi } from "vitest";
import { describeNative } from "../../test/engines.js";
import { loadEngine } from "./load.js";
import { addonVersion } from "./native-addon.js";

const dir = mkdtempSync(join(tmpdir(), "switchyard-load-"));
afterAll(() => rmSync(dir, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

it.each([
  ["without a version", "isas: () => ['x86-64']", "got none"],
  ["of another version", `version: () => ${addonVersion + 1}`, `got ${addonVersion + 1}`],
])("refuses an addon %s and says how to build it", (_, exports, got) => {
  const path = join(dir, `${got}.cjs`);
  writeFileSync(path, `module.exports = { ${exports} };`);
  vi.stubEnv("SWITCHYARD_ADDON", path);
  const refused = { code: "ERR_SWITCHYARD_ENGINE", message: `engine: ${path} is of another version of Switchyard: expected ops of version ${addonVersion}, ${got}; build it again with: npm run build` };
  expect(() => loadEngine()).toThrow(expect.objectContaining(refused));
  expect(loadEngine({ engine: "reference" }).name).toBe("reference");
});

describeNative("the addon's version", () => {
  it("is raised with the table of ops", () => {
    const addon = createRequire(import.meta.url)(loadEngine({ engine: "native" }).source) as Record<string, (...args: unknown[]) => unknown>;
    // An op that is called without arguments says how many it expects.
    const expected = (op: string): unknown => {
      try {
        return typeof addon[op]?.();
      } catch (error) {
        return (error as Error).message;
      }
    };
    const table = Object.keys(addon).toSorted().map((op) => `${op}: ${expected(op)}`);
    const digest = createHash("sha256").update(table.join("\n")).digest("hex").slice(0, 16);
    // Where the digest differs, raise `addonVersion` and the number in native/binding/module.cpp too.
    expect({ version: addonVersion, digest }).toEqual({ version: 1, digest: "9be41a6d47b37c47" });
  });
});
