import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { expect, it } from "vitest";
import { describeNative, TestTensors } from "../../test/engines.js";
import { Tensor } from "../tensor/tensor.js";
import { loadEngine } from "./load.js";

const refused = expect.objectContaining({ name: "SwitchyardError", code: "ERR_SWITCHYARD_ENGINE" });

describeNative("native engine memory", () => {
  const engine = loadEngine({ engine: "native" });

  it("allocates zeroed memory, counts it, and gives it back once", () => {
    const before = engine.allocatedBytes;
    const region = engine.allocate(3 << 20);
    expect(engine.allocatedBytes - before).toBe(3 << 20);
    const t = region.tensor("f32", [7], (3 << 20) - 64);
    expect([...engine.read(t)]).toEqual([0, 0, 0, 0, 0, 0, 0]);
    region.free();
    region.free();
    expect(engine.allocatedBytes).toBe(before);
    expect(() => engine.read(t)).toThrow(refused);
    expect(() => region.tensor("f32", [1], 0)).toThrow(refused);
  });

  it("writes, reads, fills and copies every dtype, also across the chunks of the thread pool", () => {
    const region = engine.allocate(16 << 20);
    for (const dtype of ["f32", "f64", "i32"] as const) {
      const a = region.tensor(dtype, [500_001], 0);
      const b = region.tensor(dtype, [500_001], 8 << 20);
      engine.fill(a, -3);
      engine.copy(b, a);
      expect(engine.read(b).every((x) => x === -3)).toBe(true);
      const few = region.tensor(dtype, [3], 64);
      engine.write(few, [1, 2, 3]);
      expect([...engine.read(few)]).toEqual([1, 2, 3]);
    }
    region.free();
  });

  it("maps files read-only", () => {
    const path = join(mkdtempSync(join(tmpdir(), "switchyard-")), "weights");
    writeFileSync(path, new Uint8Array(new Float32Array([1.5, -2, 8]).buffer));
    const region = engine.mapFile(path);
    const t = region.tensor("f32", [2], 4);
    expect([...engine.read(t)]).toEqual([-2, 8]);
    expect(() => engine.fill(t, 1)).toThrow(refused);
    region.free();
    writeFileSync(path, "");
    for (const bad of [path, `${path}-missing`, tmpdir()]) {
      expect(() => engine.mapFile(bad)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO" }));
    }
  });

  it.each([4096, 4 * 64 * 1024 - 8])("survives a mapped file that is cut short to %i bytes, and gives out nothing that was computed from it", (left) => {
    const path = join(mkdtempSync(join(tmpdir(), "switchyard-")), "weights");
    writeFileSync(path, new Float32Array(64 * 1024).fill(1));
    const region = engine.mapFile(path);
    const t = region.tensor("f32", [64 * 1024], 0);
    truncateSync(path, left);
    const own = engine.allocate(t.bytes);
    const sum = own.tensor("f32", [64 * 1024], 0);
    engine.copy(sum, t);
    expect(() => engine.read(sum)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO", message: expect.stringContaining("cut short") }));
    region.free();
    expect(engine.read(sum).subarray(left / 4 - 2, left / 4 + 2)).toEqual(Float32Array.of(1, 1, 0, 0));
    own.free();
  });

  it("refuses rows of no group", () => {
    const region = engine.allocate(4096 + 4);
    const [x, out, bias, offsets] = [region.tensor("f32", [5, 16], 0), region.tensor("f32", [5, 8], 1024), region.tensor("f32", [16], 2048), region.tensor("i32", [1], 4096)];
    engine.write(offsets, [5]);
    expect(() => engine.glu(out, x, { activation: "silu", gated: true, offsets, bias })).toThrow(/offsets of no group must be 0, not 5/);
    region.free();
  });

  it("survives that on every thread", () => {
    const path = join(mkdtempSync(join(tmpdir(), "switchyard-")), "weights");
    writeFileSync(path, new Float32Array(2 ** 20).fill(1));
    using t = new TestTensors(engine, 1);
    const region = engine.mapFile(path);
    truncateSync(path, 4096);
    const out = t.random([1, 1024]);
    engine.matmul("nt", out, t.random([1, 1024]), region.tensor("f32", [1024, 1024], 0));
    expect(() => engine.read(out)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_IO" }));
    region.free();
    expect(engine.read(out).subarray(1)).toEqual(new Float32Array(1023));
  });

  it("takes advice about mapped files, which changes nothing", () => {
    const path = join(mkdtempSync(join(tmpdir(), "switchyard-")), "weights");
    writeFileSync(path, Float32Array.from({ length: 8192 }, (_, i) => i));
    const region = engine.mapFile(path);
    const t = region.tensor("f32", [8191], 4);
    for (const needed of [false, true, false]) {
      engine.advise(t, needed);
      expect(engine.read(t)[8190]).toBe(8191);
    }
    const own = engine.allocate(4096);
    const tensor = own.tensor("f32", [4], 0);
    engine.fill(tensor, 3);
    engine.advise(tensor, false);
    expect(engine.read(tensor)).toEqual(Float32Array.of(3, 3, 3, 3));
    region.free();
    own.free();
  });

  it("refuses addresses outside live memory, of other engines, and sizes that overflow", () => {
    const region = engine.allocate(4096);
    const good = region.tensor("f32", [1024], 0);
    const start = good.storage as number;
    for (const storage of [0, 64, start + 4, start - 4, start + 2, start + 4096, Number.NaN, -1, 1e300, 0.5]) {
      const bad = new Tensor("f32", [1024], storage);
      expect(() => engine.fill(bad, 1), `address ${storage}`).toThrow(refused);
    }
    const huge = new Tensor("f32", [2 ** 45, 2 ** 17], start);
    expect(() => engine.fill(huge, 1)).toThrow(refused);
    expect(() => engine.copy(good, new Tensor("f32", [1024], new Float32Array(1024)))).toThrow(refused);
    expect(() => engine.allocate(2 ** 50)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_MEMORY" }));
    region.free();
  });

  it("does not promise more than the machine has", () => {
    const most = [...readFileSync("/proc/meminfo", "utf8").matchAll(/^(?:MemTotal|SwapTotal): *(\d+) kB$/gm)].reduce((sum, [, kB]) => sum + 1024 * Number(kB), 0);
    const region = engine.allocate(Math.floor(0.6 * most));
    expect(() => engine.allocate(Math.floor(0.6 * most))).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_MEMORY" }));
    region.free();
    engine.allocate(Math.floor(0.6 * most)).free();
  });
});

describeNative("loadEngine", () => {
  it("refuses kernel variants and engines that do not exist", () => {
    expect(() => loadEngine({ engine: "native", isa: "avx1024" })).toThrow(refused);
    expect(() => loadEngine({ engine: "gpu" as "native" })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE" }));
    expect(() => loadEngine({ engine: "native", threads: 0 })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_USAGE" }));
  });

  it("says which addon was loaded and what runs", () => {
    const engine = loadEngine({ engine: "native", isa: "x86-64", threads: 1 });
    expect(engine).toMatchObject({ name: "native", isa: "x86-64", threads: 1, float: "f32" });
    expect(engine.source).toMatch(/switchyard\.node$/);
  });
});

describeNative("thread pool", () => {
  it("serves several JavaScript threads at once, with more threads than cores, and outlives them", async () => {
    const engine = loadEngine({ engine: "native", threads: 7 });
    const program = `
      const { parentPort, workerData } = require("node:worker_threads");
      const addon = require(workerData);
      const size = 200 * 200;
      const [a, b, out] = [0, 1, 2].map(() => addon.allocate(size * 4));
      const values = new Float32Array(size);
      for (const [x, seed] of [[a, 3], [b, 7]]) addon.write(x, values.map((_, i) => ((i * seed) % 101) - 50));
      addon.matmul(0, 0, out, a, b, 200, 200, 200, 0, 0, 200, 0);
      const expected = new Float32Array(size);
      addon.read(expected, out);
      let wrong = 0;
      for (let run = 0; run < 200; run++) {
        addon.fill(0, out, size, -1, 0);
        addon.matmul(0, 0, out, a, b, 200, 200, 200, 0, 0, 200, 0);
        addon.read(values, out);
        wrong += values.some((x, i) => x !== expected[i]) ? 1 : 0;
      }
      [a, b, out].forEach((x) => addon.release(x));
      parentPort.postMessage(wrong);`;
    const wrong = await Promise.all(
      [1, 2, 3].map(() => new Promise((resolve, reject) => new Worker(program, { eval: true, workerData: engine.source }).once("message", resolve).once("error", reject))),
    );
    expect(wrong).toEqual([0, 0, 0]);
    engine.threads = 2;
    const region = engine.allocate(4 << 20);
    const t = region.tensor("f32", [1 << 20], 0);
    engine.fill(t, 5);
    expect(engine.read(t).every((x) => x === 5)).toBe(true);
    region.free();
  });

  it("runs no op of a JavaScript thread that was terminated while it prepared a list", async () => {
    const engine = loadEngine({ engine: "native", threads: 2 });
    const region = engine.allocate(2 ** 24 + 64);
    const [large, count] = [region.tensor("f32", [2 ** 22], 0), region.tensor("f32", [1], 2 ** 24)];
    const program = `
      const { parentPort, workerData: { source, large, count } } = require("node:worker_threads");
      const addon = require(source);
      const fill = addon.commands().indexOf("fill");
      const list = new Float64Array(2 ** 18);
      for (let i = 0; i < 9000; i++) list.set([fill, 5, 0, 0, large, 2 ** 22, 1, 0, fill, 5, 0, 0, count, 1, i + 1, 0], 16 * i);
      addon.start(list, 16 * 9000);
      parentPort.postMessage("started");
      for (;;);`;
    const done = () => engine.read(count)[0] as number;
    for (let i = 0; i < 3; i++) {
      engine.fill(count, 0);
      const worker = new Worker(program, { eval: true, workerData: { source: engine.source, large: large.storage, count: count.storage } });
      await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
      while (done() === 0) await setTimeout(1);
      await worker.terminate();
      const last = done();
      expect(last).toBeLessThan(9000);
      await setTimeout(50);
      expect(done()).toBe(last);
    }
    region.free();
  });

  it("takes back what a JavaScript thread had when that has ended, and can be loaded again", async () => {
    const engine = loadEngine({ engine: "native" });
    const file = join(mkdtempSync(join(tmpdir(), "switchyard-threads-")), "file");
    writeFileSync(file, new Uint8Array(1 << 20));
    const program = `
      const { parentPort, workerData: { source, file, most } } = require("node:worker_threads");
      const addon = require(source);
      const held = addon.allocate(most);
      addon.mapFile(file);
      const reads = addon.openReads(file);
      for (let i = 0; i < 16; i++) addon.startRead(reads, i << 16, 1 << 16, held + (i << 16), 0);
      delete require.cache[source];
      require(source);
      parentPort.postMessage({ held, descriptors: require("node:fs").readdirSync("/proc/self/fd").length });`;
    // More than half of what may be allocated in all: two at a time have no room.
    const most = Math.floor(totalmem() * 0.6);
    const descriptors: number[] = [];
    for (let i = 0; i < 3; i++) {
      const worker = new Worker(program, { eval: true, workerData: { source: engine.source, file, most } });
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      const seen = await new Promise<{ held: number; descriptors: number }>((resolve, reject) => worker.once("message", resolve).once("error", reject));
      expect(seen.held).toBeGreaterThan(0);
      descriptors.push(seen.descriptors);
      await ended;
    }
    expect(descriptors[2]).toBeLessThan((descriptors[0] as number) + 2);
    rmSync(dirname(file), { recursive: true });
  });
});
