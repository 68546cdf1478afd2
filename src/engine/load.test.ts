import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, it, vi } from "vitest";
import { describeNative } from "../../test/engines.js";
import { loadEngine } from "./load.js";
import { addonVersion } from "./native-addon.js";

// A machine with more processors than the addon has threads.
vi.mock("node:os", async (original) => ({ ...(await original<typeof import("node:os")>()), availableParallelism: () => 384 }));

const dir = mkdtempSync(join(tmpdir(), "switchyard-load-"));
let made = 0;
/** The path of a stand-in for an addon. */
function addonOf(exports: string): string {
  const path = join(dir, `${made++}.cjs`);
  writeFileSync(path, `module.exports = { ${exports} };`);
  return path;
}
afterAll(() => rmSync(dir, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

it.each([
  ["without a version", "isas: () => ['x86-64']", "got none"],
  ["of another version", `version: () => ${addonVersion + 1}`, `got ${addonVersion + 1}`],
])("refuses an addon %s and says how to build it", (_, exports, got) => {
  const path = addonOf(exports);
  vi.stubEnv("SWITCHYARD_ADDON", path);
  const refused = { code: "ERR_SWITCHYARD_ENGINE", message: `engine: ${path} is of another version of Switchyard: expected ops of version ${addonVersion}, ${got}; build it again with: npm run build` };
  expect(() => loadEngine()).toThrow(expect.objectContaining(refused));
  expect(loadEngine({ engine: "reference" }).name).toBe("reference");
});

it("an addon that SWITCHYARD_ADDON names and that is not there is no reason for a slow engine, nor to build another", () => {
  vi.stubEnv("SWITCHYARD_ADDON", join(dir, "gone.node"));
  expect(() => loadEngine()).toThrow(/no addon at .*gone\.node\); unset SWITCHYARD_ADDON/);
});

it.each([["SWITCHYARD_ENGINE", "gpu", '"native" or "reference", got "gpu"'], ["SWITCHYARD_THREADS", "many", 'an integer from 1 to 256, got "many"'], ["SWITCHYARD_THREADS", "0", 'an integer from 1 to 256, got "0"']])(
  "names %s where it is %s",
  (name, value, expected) => {
    vi.stubEnv("SWITCHYARD_ADDON", addonOf(`version: () => ${addonVersion}, commands: () => [], isas: () => ["x86-64"]`));
    vi.stubEnv(name, value);
    expect(() => loadEngine()).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE", message: `${name}: expected ${expected}` }));
  },
);

it("takes empty variables for none, and no more threads than the addon has", () => {
  vi.stubEnv("SWITCHYARD_ADDON", addonOf(`version: () => ${addonVersion}, commands: () => [], isas: () => ["x86-64"], threads(n) { return (this.n = n || this.n); }`));
  for (const name of ["ENGINE", "ISA", "THREADS"]) vi.stubEnv(`SWITCHYARD_${name}`, "");
  expect(loadEngine()).toMatchObject({ name: "native", isa: "x86-64", threads: 256 });
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
    expect({ version: addonVersion, digest }).toEqual({ version: 2, digest: "f24cfdef9b8b9ac3" });
  });
});
