import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { ModelConfig } from "../model/config.js";
import { LanguageModel } from "../model/language-model.js";
import { modelConfig } from "../model/presets.js";
import { byteTokenizer } from "../tokenizer/bytes.js";
import { train, type TrainSettings, type TrainStep } from "./train.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-train-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = modelConfig({ vocab: 256, width: 16, layers: 1, heads: 2, context: 8, moe: { experts: 2, active: 1, hidden: 8 } });
const data = Int32Array.from({ length: 2000 }, (_, i) => (i * i) % 256);

async function run({ config: own = config, ...settings }: Partial<TrainSettings> & { config?: ModelConfig }, seen: (step: TrainStep, model: LanguageModel) => void = () => undefined): Promise<void> {
  using model = LanguageModel.create({ config: own, seed: 1, tokenizer: byteTokenizer() });
  for await (const step of train(model, { data, steps: 20, batch: 2, learningRate: 1e-3, warmup: 0, ...settings })) seen(step, model);
}

describe("a run that diverges", () => {
  const breaks = (at: number) => ({ index }: TrainStep, { engine, parameters: { list } }: LanguageModel) => {
    const [{ tensor }] = list as [(typeof list)[number]];
    if (index === at) engine.write(tensor, new Float32Array(tensor.size).fill(NaN));
  };

  it("leaves the last checkpoint from before, which it can be resumed from", async () => {
    const out = join(root, "diverged");
    await expect(run({ out, checkpointEvery: 1, evalEvery: 1 }, breaks(5))).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DIVERGED" });
    expect(readdirSync(join(out, "checkpoints")).sort().at(-1)).toBe("step-00000005");
    const indices: number[] = [];
    await run({ out, resume: true }, ({ index }) => indices.push(index));
    expect([indices[0], indices.at(-1)]).toEqual([6, 20]);
  });

  it("at its last step is an error too, and is not saved", async () => {
    const out = join(root, "late");
    await expect(run({ out, checkpointEvery: 10, evalEvery: 0 }, breaks(19))).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DIVERGED", message: expect.stringMatching(/not finite at the last step, 20/) });
    expect(readdirSync(join(out, "checkpoints"))).toEqual(["step-00000010"]);
  });

  it("from its first evaluation on: the best is one that is finite", async () => {
    const out = join(root, "recovered");
    const whole = new Float32Array(config.vocab * config.width);
    await run({ out, steps: 6, evalEvery: 2 }, ({ index }, { engine, parameters: { list } }) => {
      const [{ tensor }] = list as [(typeof list)[number]];
      if (index === 1) {
        whole.set(engine.read(tensor));
        engine.write(tensor, new Float32Array(tensor.size).fill(NaN));
      } else if (index === 2) engine.write(tensor, whole);
    });
    const { best } = JSON.parse(readFileSync(join(out, "checkpoints/step-00000006/trainer.json"), "utf8")) as { best: { step: number } };
    expect(best.step).toBeGreaterThan(2);
    await run({ out, steps: 7, resume: true, warn: () => undefined });
    expect(JSON.parse(readFileSync(join(out, "checkpoints/step-00000007/trainer.json"), "utf8"))).toMatchObject({ step: 7, updates: 6, skipped: 1, tokens: 7 * 2 * config.context });
  });
});

it("a folder is for one run at a time", async () => {
  const out = join(root, "shared");
  const refused = { code: "ERR_SWITCHYARD_USAGE", message: expect.stringContaining(`train: process ${process.pid} trains in ${out}; wait for its end`) };
  using model = LanguageModel.create({ config, seed: 1 });
  for await (const { index } of train(model, { data, steps: 2, batch: 2, learningRate: 1e-3, out, checkpointEvery: 1, evalEvery: 0 })) {
    if (index === 1) await expect(run({ out, resume: true })).rejects.toMatchObject(refused);
  }
  // Of a process that cannot exist, and of one that lives.
  writeFileSync(join(out, ".train.jsonl.claim-4194305-00000000"), "");
  await run({ out, resume: true, steps: 3 });
  writeFileSync(join(out, `.train.jsonl.claim-${process.ppid}-00000000`), "");
  await expect(run({ out, resume: true, steps: 4 })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_USAGE", message: expect.stringContaining(`process ${process.ppid} trains in`) });
  expect(readdirSync(out).filter((name) => name.includes("claim"))).toEqual([`.train.jsonl.claim-${process.ppid}-00000000`]);
});

it("a damaged checkpoint is passed over, and set aside when its step is saved again", async () => {
  const out = join(root, "damaged");
  await run({ out, steps: 4, checkpointEvery: 2, evalEvery: 0 });
  truncateSync(join(out, "checkpoints/step-00000004/manifest.json"), 100);
  const warnings: string[] = [];
  await run({ out, steps: 6, checkpointEvery: 2, evalEvery: 0, resume: true, warn: (message) => warnings.push(message) });
  expect(warnings[0]).toMatch(/step-00000004.*trying the one before/);
  expect(readdirSync(join(out, "checkpoints")).sort()).toEqual(["step-00000004", "step-00000004.damaged", "step-00000006"]);
  // Nothing was evaluated: the newest is the run's model.
  expect(readFileSync(join(out, "model.safetensors")).equals(readFileSync(join(out, "checkpoints/step-00000006/model.safetensors")))).toBe(true);
});

it("goes on with the model of the run and no other, be it that every weight it has is there", async () => {
  const out = join(root, "other-model");
  await run({ out, steps: 1, config: { ...config, layers: 2, mixers: [...config.mixers, ...config.mixers], sparseLayers: [0, 1] } });
  await expect(run({ out, steps: 2, resume: true })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_CHECKPOINT", message: expect.stringMatching(/not the one that .*step-00000001 was saved from \(layers: 1, not 2\)/) });
  const same = join(root, "other-balance");
  await run({ out: same, steps: 1 });
  const moe = { ...config.moe!, router: { ...config.moe!.router, balance: { method: "none" } as const } };
  await expect(run({ out: same, steps: 2, resume: true, config: { ...config, moe } })).rejects.toThrow('(moe.router.balance.method: "none", not "switch")');
  await run({ out: same, steps: 2, resume: true });
});

it("the best checkpoint is kept, and is the run's model, though later ones and a resumed run do worse", async () => {
  const out = join(root, "best");
  const settings = { out, evalEvery: 2, checkpointEvery: 1, keepCheckpoints: 1 };
  await run({ ...settings, steps: 6 }, ({ index }, { engine, parameters }) => {
    const head = parameters.get("head");
    if (index === 2) engine.write(head, engine.read(head).map((w) => 50 * w));
  });
  let record: TrainStep["record"];
  await run({ ...settings, steps: 8, resume: true }, (step) => void (record = step.record));
  expect(record).toMatchObject({ step: 8, tokens: 8 * 16 });
  expect(readdirSync(join(out, "checkpoints")).sort()).toEqual(["step-00000002", "step-00000008"]);
  expect(JSON.parse(readFileSync(join(out, "checkpoints/step-00000008/trainer.json"), "utf8"))).toMatchObject({ tokens: 8 * 16, best: { step: 2 } });
  expect(readFileSync(join(out, "model.safetensors")).equals(readFileSync(join(out, "checkpoints/step-00000002/model.safetensors")))).toBe(true);
});

it("what was to be published when the process ended is published when the run goes on", async () => {
  const out = join(root, "unpublished");
  await run({ out, steps: 4, evalEvery: 2 });
  for (const name of ["model.safetensors", "config.json"]) rmSync(join(out, name));
  await run({ out, steps: 4, evalEvery: 2, resume: true, warn: () => undefined });
  using model = await LanguageModel.load(out);
  expect(model.config.vocab).toBe(256);
});

it("evaluates every so many steps and at the last, over no more batches than it takes", async () => {
  const tokens: (number | undefined)[] = [];
  await run({ steps: 5, evalEvery: 2, evalTokens: 32 }, ({ evaluation }) => tokens.push(evaluation?.tokens));
  expect(tokens).toEqual([undefined, 32, undefined, 32, 32]);
});

it("an evaluation leaves the event loop its turns", async () => {
  let turns = 0;
  let before = 0;
  const timer = setInterval(() => turns++, 0);
  await run({ steps: 1, evalEvery: 1, validation: 0.9 }, () => (before = turns));
  clearInterval(timer);
  expect(before).toBeGreaterThan(10); // of 112 batches
});

it.each(["README.md", "config.json", "model.safetensors", "train.jsonl"])("a new run does not write over somebody's %s", async (name) => {
  const out = join(root, "taken", name);
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, name), "mine\n");
  writeFileSync(join(out, "notes.txt"), "in nobody's way");
  await expect(run({ out, steps: 1 })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_USAGE", message: expect.stringContaining(name) });
  expect([name, readFileSync(join(out, name), "utf8"), ...readdirSync(out)]).toEqual([name, "mine\n", ...[name, "notes.txt"].sort()]);
});

it("a run that was killed before its first checkpoint may begin again in its folder", async () => {
  const out = join(root, "again");
  await expect(run({ out, checkpointEvery: 0, evalEvery: 0, logEvery: 1 }, ({ index }) => {
    if (index === 3) throw new Error("killed");
  })).rejects.toThrow("killed");
  expect(readdirSync(out)).toContain("train.jsonl");
  await run({ out, steps: 2, logEvery: 1 });
  expect(readFileSync(join(out, "train.jsonl"), "utf8").trim().split("\n")).toHaveLength(2);
});

it("what the system refuses is told with its path, and leaves nothing half-made", async () => {
  const out = join(root, "refused");
  const blocked = run({ out, evalEvery: 2 }, ({ index }) => {
    if (index === 1) mkdirSync(join(out, "model.safetensors/in-the-way"), { recursive: true });
  });
  await expect(blocked).rejects.toMatchObject({ code: "ERR_SWITCHYARD_IO", details: { path: join(out, "model.safetensors"), code: "EISDIR" } });
  expect(readdirSync(out).filter((name) => name.endsWith(".new"))).toEqual([]);
  const other = join(root, "no-folder");
  mkdirSync(other);
  writeFileSync(join(other, "checkpoints"), "");
  await expect(run({ out: other, resume: true })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_IO", details: { path: join(other, "checkpoints") } });
});

it.each([256, -1])("refuses token %i, which the vocabulary does not have", async (id) => {
  await expect(run({ data: Int32Array.from({ length: 100 }, (_, i) => (i === 99 ? id : 1)) })).rejects.toMatchObject({ code: "ERR_SWITCHYARD_DATA", message: expect.stringContaining(`got ${id}`) });
});

it.each<[string, object, string]>([
  ["a list of numbers as data", { data: [1, 2, 3] }, "train: data: expected text files or folders, or a Uint16Array or Int32Array of token ids, got a list of other things"],
  ["a rate in quotes", { learningRate: "1e-3" }, 'train: learningRate: expected a number above 0, got "1e-3"'],
  ["half a step", { steps: 1.5 }, "train: steps: expected an integer of at least 1, got 1.5"],
  ["no batch", { batch: undefined }, "train: batch: expected an integer of at least 1, got undefined"],
  ["another schedule", { schedule: "linear" }, 'train: schedule: expected cosine, wsd or constant, got "linear"'],
  ["to go on from nowhere", { resume: true }, "train: resume: goes on with the run in `out`; name its folder"],
  ["the controller of a signal", { signal: new AbortController() }, "train: signal: expected an AbortSignal, such as the `signal` of an AbortController"],
  ["an option that is none", { learnigRate: 1 }, 'train: unknown option "learnigRate"; did you mean learningRate?'],
])("refuses %s", async (_, settings, message) => {
  await expect(run(settings)).rejects.toMatchObject({ code: "ERR_SWITCHYARD_USAGE", message });
});

// More than a call takes arguments.
it("takes a batch of 150,000 sequences", async () => {
  const losses: number[] = [];
  await run({ batch: 150_000, context: 1, steps: 1, evalEvery: 0 }, ({ loss }) => losses.push(loss));
  expect(losses).toEqual([expect.closeTo(Math.log(256), 0)]);
});

it("what killed runs began to write goes with the next checkpoint, what a living one writes stays", async () => {
  const out = join(root, "killed");
  const beyondAnyPid = 2 ** 22 + 1;
  const [dead, living] = [beyondAnyPid, process.ppid].map((pid) => `.step-00000007.new-${pid}-0123abcd`) as [string, string];
  for (const name of [dead, living]) mkdirSync(join(out, "checkpoints", name, "inside"), { recursive: true });
  await run({ out, steps: 2 });
  expect(readdirSync(join(out, "checkpoints")).filter((name) => name.startsWith("."))).toEqual([living]);
});
