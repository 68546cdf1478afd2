#!/usr/bin/env node
import { processIo } from "./io.js";
import { run } from "./program.js";

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // Whoever reads our output may stop reading, as `head` does.
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`switchyard: cannot write the output: ${error.message}\n`);
  process.exit(1);
});
// Progress that nobody reads, or that has no room, is no reason to stop a training.
process.stderr.on("error", () => undefined);
process.exitCode = await run(process.argv.slice(2), processIo());
