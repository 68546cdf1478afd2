// Type check, lint and unit tests. The last line is always "N passed, N failed" (and ", N skipped" when some were):
// the type check and the lint count as one check each, and so does whatever stops the tests from running at all.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const report = join(root, "build/vitest.json");
const count = { passed: 0, failed: 0, skipped: 0 };

/** Runs a script of node_modules (or of ours) with this Node; true when it exits with 0. */
const node = (...args) => spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status === 0;

function record(what, ok) {
  count[ok ? "passed" : "failed"] += 1;
  if (!ok) console.log(`FAILED: ${what}`);
}

function runVitest() {
  mkdirSync(dirname(report), { recursive: true });
  rmSync(report, { force: true });
  const ok = node("node_modules/vitest/vitest.mjs", "run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`);
  if (!existsSync(report)) return record("vitest wrote no report", false);
  const result = JSON.parse(readFileSync(report, "utf8"));
  const failedBefore = count.failed;
  count.passed += result.numPassedTests;
  count.failed += result.numFailedTests;
  count.skipped += result.numPendingTests + result.numTodoTests;
  for (const file of result.testResults) {
    if (file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed")) record(`${file.name} did not run to its end`, false);
  }
  if (result.numPassedTests + result.numFailedTests === 0) record("no test ran", false);
  else if (!ok && count.failed === failedBefore) record("vitest: an error outside the tests, see above", false);
}

if (node("scripts/setup.mjs")) {
  record("type check (tsc --noEmit)", node("node_modules/typescript/bin/tsc", "--noEmit"));
  record("lint (oxlint)", node("node_modules/oxlint/bin/oxlint", "--deny-warnings"));
  runVitest();
} else {
  record("setup", false);
}
console.log(`${count.passed} passed, ${count.failed} failed${count.skipped > 0 ? `, ${count.skipped} skipped` : ""}`);
process.exitCode = count.failed > 0 ? 1 : 0;
