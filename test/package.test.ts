import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const [packed] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: root, encoding: "utf8" })) as [{ files: { path: string }[] }];
const paths = new Set(packed.files.map(({ path }) => path));

test("the package has what build-engine compiles, and what its documents link to", () => {
  for (const folder of ["native/binding", "native/core", "native/kernels"]) {
    for (const name of readdirSync(join(root, folder))) expect(paths).toContain(`${folder}/${name}`);
  }
  for (const document of [...paths].filter((path) => path.endsWith(".md"))) {
    const links = readFileSync(join(root, document), "utf8").matchAll(/\]\(([\w./-]+)(?:#[\w-]+)?\)/g);
    for (const [, link = ""] of links) {
      const target = join(dirname(document), link);
      expect([...paths].some((path) => path === target || path.startsWith(`${target}/`)), `${document}: ${link}`).toBe(true);
    }
  }
});

test.skipIf(spawnSync("make", ["--version"]).status !== 0)("the engine compiles in a folder with a space", () => {
  const commands = execFileSync("make", ["-n", "-B", "native", "NODE_API_HEADERS=/a b/include"], { cwd: root, encoding: "utf8" });
  expect(commands).toContain('-isystem "/a b/include" ');
});

test("the package has sources, documents and what was compiled, and nothing else", () => {
  const known = /^(?:package\.json|README\.md|LICENSE|Makefile|native\/(?:binding|core|kernels)\/[\w.]+|examples\/[\w-]+\.(?:ts|md)|CONTRIBUTING\.md|docs\/(?:(?:guide\/|decisions\/)?[\w-]+\.md|demo\.svg)|dist\/.+\.(?:js|d\.ts))$/;
  expect([...paths].filter((path) => !known.test(path) || path.includes(".test."))).toEqual([]);
});
