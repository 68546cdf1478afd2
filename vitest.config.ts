import { defineConfig } from "vitest/config";

const source = (path: string) => new URL(`src/${path}`, import.meta.url).pathname;

export default defineConfig({
  // The examples import the package by its name; tests run its sources.
  resolve: { alias: [{ find: /^switchyard$/, replacement: source("index.ts") }, { find: /^switchyard\/routing$/, replacement: source("routing/index.ts") }] },
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    pool: "forks",
    // The engine has a thread pool of its own: more workers than this only take the cores from each other.
    maxWorkers: 2,
    // Seconds on two idle cores; a busy or an old machine is no reason to fail.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    watch: false,
  },
});
