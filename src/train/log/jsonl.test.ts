import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { stepRecord } from "../../../test/fixtures/step-record.js";
import { JsonlLog } from "./jsonl.js";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "switchyard-jsonl-"));
  path = join(folder, "log.jsonl");
});
afterEach(() => rmSync(folder, { recursive: true }));

const steps = () => readFileSync(path, "utf8").split("\n").slice(0, -1).map((line) => (JSON.parse(line) as { step: number }).step);

function writeSteps(from: number, to: number, options: { resumeStep?: number } = {}): void {
  const log = new JsonlLog(path, options);
  for (let step = from; step <= to; step++) log.write(stepRecord(step));
  log.close();
}

describe("JsonlLog", () => {
  test("a line is in the file when write returns, and holds the whole record", () => {
    const log = new JsonlLog(path);
    log.write(stepRecord(1, { eval: { loss: 2, perplexity: Math.exp(2) } }));
    expect(JSON.parse(readFileSync(path, "utf8"))).toEqual(stepRecord(1, { eval: { loss: 2, perplexity: Math.exp(2) } }));
    log.write(stepRecord(2, { loss: Number.NaN }));
    expect(readFileSync(path, "utf8").split("\n")[1]).toContain('"loss":null');
    log.close();
  });

  test("a new run starts the file anew", () => {
    writeSteps(1, 5);
    writeSteps(1, 2);
    expect(steps()).toEqual([1, 2]);
  });

  test("resuming cuts off later lines and goes on: the file equals that of an uninterrupted run", () => {
    writeSteps(1, 9);
    const whole = readFileSync(path);
    writeSteps(7, 9, { resumeStep: 6 });
    expect(readFileSync(path)).toEqual(whole);
  });

  test.each([0, 1, 20, 500])("resuming drops a last line of which %i bytes are missing, even if its step is kept", (missing) => {
    writeSteps(1, 3);
    writeFileSync(path, readFileSync(path).subarray(0, -1 - missing));
    writeSteps(3, 4, { resumeStep: 3 });
    expect(steps()).toEqual([1, 2, 3, 4]);
  });

  test("resuming stops at a line that is no record", () => {
    writeSteps(1, 2);
    appendFileSync(path, 'null\n{"step":"x"}\n{"step":3}\n');
    writeSteps(3, 3, { resumeStep: 9 });
    expect(steps()).toEqual([1, 2, 3]);
  });

  test("resuming reads files of more than one chunk", () => {
    const bias = Array.from({ length: 2000 }, (_, e) => e / 7);
    const big = stepRecord(1).moe.map((layer) => ({ ...layer, bias }));
    const log = new JsonlLog(path);
    for (let step = 1; step <= 60; step++) log.write(stepRecord(step, { moe: big }));
    log.close();
    expect(readFileSync(path).length).toBeGreaterThan(3 << 20);
    new JsonlLog(path, { resumeStep: 41 }).close();
    expect(steps()).toEqual(Array.from({ length: 41 }, (_, i) => i + 1));
  });

  test("resuming without a file starts one", () => {
    writeSteps(1, 1, { resumeStep: 0 });
    expect(steps()).toEqual([1]);
  });

  test("says which file it cannot open", () => {
    expect(() => new JsonlLog(join(folder, "missing", "log.jsonl"))).toThrow(
      expect.objectContaining({ code: "ERR_SWITCHYARD_IO", message: expect.stringMatching(/cannot open .*missing.*ENOENT/) }),
    );
  });

  test.skipIf(!existsSync("/dev/full"))("a full disk is an error", () => {
    expect(() => new JsonlLog("/dev/full").write(stepRecord(1))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO" }));
  });
});
