import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { buildCli, tiny } from "../../test/cli.js";
import { fitBlocks } from "../quant/codecs.js";

const folder = mkdtempSync(join(tmpdir(), "switchyard-process-"));
const text = join(folder, "text.txt");
writeFileSync(text, "the quick brown fox jumps over the lazy dog. ".repeat(60));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let built: ReturnType<typeof buildCli>;
beforeAll(() => {
  built = buildCli();
}, 120_000);

const start = (...args: string[]) => spawn(process.execPath, [built.main, ...args], { env: built.env, stdio: ["ignore", "pipe", "pipe"] });
const posix = process.platform === "linux" || process.platform === "darwin";

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Waits for the end; `seen` is called with what is on stderr so far. */
function ended(child: ChildProcess, seen: (stderr: string) => void = () => undefined): Promise<Ended> {
  const out = { stdout: "", stderr: "" };
  child.stdout?.on("data", (data: Buffer) => (out.stdout += data.toString()));
  child.stderr?.on("data", (data: Buffer) => seen((out.stderr += data.toString())));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, ...out })));
}

const shell = (script: string, ...args: string[]) => spawnSync("bash", ["-c", script, "bash", process.execPath, built.main, ...args], { env: built.env, encoding: "utf8" });

it.skipIf(!posix)("Ctrl-C writes a checkpoint; the resumed run equals one that was never stopped, bit for bit", { timeout: 120_000 }, async () => {
  const flags = [...tiny, "--steps", "300", "--balance", "loss-free", "--router", "shazeer", "--dropout", "0.1", "--eval-every", "0", "--checkpoint-every", "0", "--json"];
  const out = join(folder, "stopped");
  const child = start("train", "--data", text, "--out", out, ...flags);
  let sent = false;
  const stopped = await ended(child, (stderr) => {
    if (!sent && stderr.includes("step 1/300")) sent = child.kill("SIGINT");
  });
  expect(stopped.code).toBe(130);
  expect(stopped.stderr).toContain("Stopping after this step, with a checkpoint");
  const result = JSON.parse(stopped.stdout) as { interrupted: boolean; steps: number; next: string };
  expect(result.interrupted).toBe(true);
  expect(result.steps).toBeLessThan(300);
  expect(result.next).toBe(`npx switchyard train --data ${text} --out ${out} --resume`);
  expect(readdirSync(join(out, "checkpoints"))).toHaveLength(1);

  const resumed = await ended(start("train", "--data", text, "--out", out, "--resume", "--json"));
  expect(JSON.parse(resumed.stdout)).toMatchObject({ resumedFrom: result.steps, steps: 300, interrupted: false });
  const whole = join(folder, "whole");
  expect((await ended(start("train", "--data", text, "--out", whole, ...flags))).code).toBe(0);
  for (const file of ["model.safetensors", "optimizer.safetensors"]) {
    const [a, b] = [out, whole].map((run) => readFileSync(join(run, "checkpoints/step-00000300", file))) as [Buffer, Buffer];
    expect(a.equals(b), file).toBe(true);
  }
  const losses = (run: string) => readFileSync(join(run, "train.jsonl"), "utf8").trim().split("\n").map((line) => (JSON.parse(line) as { loss: number }).loss);
  expect(losses(out).at(-1)).toBe(losses(whole).at(-1));
});

it.skipIf(!posix)("a second Ctrl-C ends at once", { timeout: 60_000 }, async () => {
  const child = start("train", "--data", text, "--out", join(folder, "twice"), ...tiny, "--steps", "100000");
  const { code } = await ended(child, (stderr) => {
    if (stderr.includes("step 1/")) child.kill("SIGINT");
    if (stderr.includes("Stopping")) child.kill("SIGINT");
  });
  expect(code).toBe(130);
  expect(readdirSync(join(folder, "twice")).filter((name) => name.startsWith("."))).toEqual([]);
});

it.skipIf(!posix)("a full disk is said, leaves no half-written checkpoint and loses no earlier one", { timeout: 60_000 }, () => {
  const out = join(folder, "full");
  const train = (blocks: string, ...args: string[]) => shell(`ulimit -f ${blocks}; exec "$@"`, "train", "--data", text, "--out", out, ...args);
  const first = train("unlimited", ...tiny, "--log-every", "1000", "--eval-every", "0");
  expect(first.status).toBe(0);
  const before = readdirSync(join(out, "checkpoints"));
  // A limit on the size of files stands for the disk: the same path in the code, another number from the system. Blocks of 1 KiB.
  const second = train("60", "--resume", "--steps", "40");
  expect(second.status).toBe(1);
  expect(second.stderr).toMatch(/^switchyard: write .*: EFBIG, .*write elsewhere$/m);
  expect(second.stderr).toContain("Step 20 is saved; to go on from it: npx switchyard train --data");
  expect(readdirSync(join(out, "checkpoints"))).toEqual(before);
  expect(train("unlimited", "--resume", "--steps", "22").status).toBe(0);
});

it.skipIf(!existsSync("/dev/full"))("a full disk behind stdout is an error, not a crash", () => {
  const { status, stderr } = shell('"$@" > /dev/full', "doctor", "--json");
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^switchyard: cannot write the output: ENOSPC/)]);
});

it.skipIf(!posix)("a reader that stops early is no error", () => {
  expect(shell('set -o pipefail; "$@" | head -c 1 > /dev/null', "train", "--help").status).toBe(0);
});

it.skipIf(!posix)("a training goes on when nobody reads its progress any more", () => {
  const out = join(folder, "unwatched");
  const { status, stderr } = shell('set -o pipefail; "$@" 2>&1 > /dev/null | head -c 1 > /dev/null', "train", "--data", text, "--out", out, ...tiny, "--steps", "200", "--eval-every", "20");
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(readdirSync(join(out, "checkpoints"))).toContain("step-00000200");
});

it.skipIf(process.platform !== "linux" || process.arch !== "x64")("build-engine says what is missing and how to get it", () => {
  const bare = join(folder, "bin");
  mkdirSync(bare);
  const build = () => spawnSync(process.execPath, [built.main, "build-engine"], { env: { PATH: bare }, encoding: "utf8" });
  expect(build()).toMatchObject({ status: 1, stderr: expect.stringMatching(/make is missing; install it .*apt-get/) });
  writeFileSync(join(bare, "make"), "#!/bin/sh\n", { mode: 0o755 });
  symlinkSync("/bin/sh", join(bare, "sh"));
  expect(build()).toMatchObject({ status: 1, stderr: expect.stringMatching(/a C\+\+ compiler is missing/) });
});

it("doctor says why the reference engine is used", () => {
  const { SWITCHYARD_ENGINE: _, ...env } = built.env;
  const { stdout, stderr } = spawnSync(process.execPath, [built.main, "doctor", "--json"], { env: { ...env, SWITCHYARD_ADDON: "" }, encoding: "utf8" });
  expect(JSON.parse(stdout)).toMatchObject({ engine: { name: "reference", why: expect.stringMatching(/no addon at .*build-engine/) } });
  expect(stderr).toContain("the slow reference engine is used");
});

it("wrong usage exits with 2, and everything else that fails with 1", () => {
  const code = (...args: string[]) => spawnSync(process.execPath, [built.main, ...args], { env: built.env }).status;
  expect([code("train", "--size", "huge"), code("inspect", join(folder, "nowhere")), code("--version")]).toEqual([2, 1, 0]);
});

it.each(["README.md", "docs/guide/getting-started.md"])("the program in %s runs", { timeout: 60_000 }, (name) => {
  const program = /```js\n(.*?)```/s.exec(readFileSync(join(import.meta.dirname, "../..", name), "utf8"))?.[1] as string;
  // Inside the built package, so that it is found by its name; in a folder of its own, for what it reads and writes.
  const file = join(built.main, "../../..", `${name.replaceAll("/", "-")}.mjs`);
  writeFileSync(file, program.replace(/steps: \d+, batch: \d+/, "steps: 2, batch: 1").replace("% 100", "% 2").replace("maxTokens: 100", "maxTokens: 5"));
  writeFileSync(join(folder, "book.txt"), readFileSync(text));
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { env: built.env, cwd: folder, encoding: "utf8" });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  expect(stdout).toMatch(/^2 \d\.\d+/m);
  expect(existsSync(join(folder, "out"))).toBe(true);
});

it.skipIf(!posix)("the packed package has its whole API, typed, and the command", { timeout: 120_000 }, async () => {
  const root = join(built.main, "../../..");
  const project = join(root, "project");
  const installed = join(project, "node_modules/switchyard");
  rmSync(project, { recursive: true, force: true });
  mkdirSync(installed, { recursive: true });
  const ran = (command: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: project, env: built.env, encoding: "utf8" });
    expect([status, stderr], stdout).toEqual([0, ""]);
    return stdout;
  };
  const [{ filename }] = JSON.parse(ran("npm", "pack", root, "--json", "--ignore-scripts")) as [{ filename: string }];
  ran("tar", "-xzf", filename, "--strip-components=1", "-C", installed);
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  writeFileSync(join(project, "tsconfig.json"), '{ "compilerOptions": { "strict": true, "module": "nodenext", "target": "es2022", "types": ["node"] } }');
  writeFileSync(join(project, "program.ts"), `
    import { inspect, type Inspection, Model, type Verification, verify } from "switchyard";
    import { defineRouter } from "switchyard/routing";
    await Model.create({ vocab: 256, width: 16, heads: 2, layers: 1, moe: { hidden: 16 } }).save("model");
    const { parameters: { total } }: Inspection = await inspect("model");
    const check = (): Promise<Verification> => verify("model", "golden", { tolerance: 0 });
    console.log(total, await check().then(({ pass }) => pass, ({ code }) => code), typeof defineRouter);`);
  // Whatever the pages show is a program that compiles.
  const docs = join(root, "../../docs");
  const pages = [join(docs, "../README.md"), ...readdirSync(docs, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".md")).map((name) => join(docs, name))];
  const shown = pages.flatMap((page) => [...readFileSync(page, "utf8").matchAll(/```([jt]s)\n(.*?)```/gs)].map(([, kind, program]) => ({ kind, program: program as string })));
  expect(shown.length).toBeGreaterThan(8);
  for (const [i, { kind, program }] of shown.entries()) {
    writeFileSync(join(project, `shown-${i}.ts`), program);
    if (kind !== "js") continue;
    writeFileSync(join(project, "shown.mjs"), program);
    ran(process.execPath, "--check", "shown.mjs"); // in the oldest Node there is no `using`
  }
  ran(process.execPath, join(root, "../../node_modules/typescript/bin/tsc"));
  expect(ran(process.execPath, "program.js")).toMatch(/^\d+ ERR_SWITCHYARD_CHECKPOINT function$/m);
  ran(process.execPath, join(installed, "dist/cli/main.js"), "verify", "model", "--record", "golden");
  expect(ran(process.execPath, "program.js")).toMatch(/^\d+ true function$/m);
});

it.skipIf(!posix)("a quantised file that the disk has no room for is an error, and leaves nothing", { timeout: 120_000 }, async () => {
  const model = join(folder, "to-quantise");
  expect((await ended(start("train", "--data", text, "--out", model, ...tiny))).code).toBe(0);
  const out = join(folder, "too-large");
  for (const target of [`${out}.gguf`, out]) {
    const { status, stderr } = shell('ulimit -f 16; exec "$@"', "quantize", model, "--out", target, "--type", "q8_0");
    expect([status, stderr]).toEqual([1, expect.stringMatching(/switchyard: write .*too-large.*: (EFBIG|ENOSPC)/)]);
    expect(readdirSync(folder).filter((name) => name.includes("too-large"))).toEqual([]);
  }
});

it.skipIf(!posix).each(["SIGINT", "SIGTERM"] as const)("%s while a large file is written leaves nothing of it", { timeout: 60_000 }, async (signal) => {
  const begun = () => readdirSync(folder).filter((name) => name.includes("large.gguf"));
  const child = start("make-model", "olmoe-1b-7b", "--layers", "2", "--out", join(folder, "large.gguf"));
  const end = ended(child);
  while (begun().length === 0 && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill(signal);
  expect((await end).code).toBe(signal === "SIGINT" ? 130 : 143);
  expect(begun()).toEqual([]);
});

it("quantize leaves the event loop its turns", { timeout: 60_000 }, () => {
  const script = `
    const { Model, quantize } = await import(process.argv[1]);
    const [model, target] = process.argv.slice(2);
    await Model.create({ vocab: 256 }).save(model);
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await quantize(model, target, { type: "Q4_K" });
    clearInterval(timer);
    console.log(turns);`;
  const args = ["--input-type=module", "-e", script, join(built.main, "../../index.js"), join(folder, "xs"), join(folder, "xs.gguf")];
  const { stdout, stderr } = spawnSync(process.execPath, args, { env: built.env, encoding: "utf8" });
  expect(stderr).toBe("");
  expect(Number(stdout)).toBeGreaterThan(60); // 10 on one thread, some 350 beside others
});

it("threads encode the same bytes as one does, and fail alike", { timeout: 120_000 }, () => {
  const script = `
    const { EncoderPool } = await import(process.argv[1]);
    const pool = new EncoderPool(2);
    const importance = new Float32Array(512).map((_, i) => 1 + (i % 7));
    const encode = (type, seed) => pool.encode({ type, values: new Float32Array(2048).map((_, i) => Math.sin(seed + i * i)), importance });
    const bytes = await Promise.all(["Q4_K", "Q6_K", "Q4_0", "MXFP4", "Q2_K"].map(encode));
    const failure = await encode("Q4_0", Infinity).catch(({ code, message }) => code + " " + message);
    console.log(JSON.stringify([...[...bytes, await encode("Q8_0", 9)].map((b) => Buffer.from(b).toString("hex")), failure]));
    await pool[Symbol.asyncDispose]();`;
  const file = join(built.main, "../../quant/encoder-pool.js");
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script, file], { encoding: "utf8" });
  expect(stderr).toBe("");
  const importance = new Float32Array(512).map((_, i) => 1 + (i % 7));
  const want = (["Q4_K", "Q6_K", "Q4_0", "MXFP4", "Q2_K"] as const).map((type, seed) => fitBlocks(type, new Float32Array(2048).map((_, i) => Math.sin(seed + i * i)), importance));
  const last = fitBlocks("Q8_0", new Float32Array(2048).map((_, i) => Math.sin(9 + i * i)), importance);
  const failure = "ERR_SWITCHYARD_DATA encode Q4_0: expected numbers up to 65504, the largest of f16, got NaN; choose bf16 or f32 for it";
  expect(JSON.parse(stdout)).toEqual([...[...want, last].map((bytes) => Buffer.from(bytes).toString("hex")), failure]);
});
