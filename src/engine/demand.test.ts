import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { describeNative, sameBits, TestTensors } from "../../test/engines.js";
import { randomBlocks } from "../../test/stored.js";
import { type LateTensor, Tensor, view } from "../tensor/tensor.js";
import { loadEngine } from "./load.js";
import type { NativeEngine } from "./native.js";

const refused = expect.objectContaining({ name: "SwitchyardError", code: "ERR_SWITCHYARD_ENGINE" });
const [experts, rows, cols] = [4, 37, 512];

describeNative("late matrices", () => {
  const engine = loadEngine({ engine: "native", threads: 2 }) as NativeEngine;
  const t = new TestTensors(engine, 1);
  afterAll(() => t[Symbol.dispose]());
  const [gate, up] = [1, 2].map((seed) => {
    const all = t.of("q4_k", [experts, rows, cols], randomBlocks("q4_k", experts * rows * cols, seed));
    return Array.from({ length: experts }, (_, e) => view(all, [rows, cols], e * rows * cols));
  }) as [Tensor[], Tensor[]];
  const cells = t.of("f64", [2 * experts], new Float64Array(2 * experts));
  const [lateGate, lateUp] = [gate, up].map((list, i) => engine.lateMatrices(cells, i * experts, list)) as [LateTensor[], LateTensor[]];
  const [x, y] = [t.random([12, cols]), t.random([12, 2 * rows])];
  const offsets = t.ints([0, 1, 1, 10, 12]);
  const demand = { offsets, there: view(cells, [experts]), rows: t.ints([0, 0, 0, 0]), always: false };
  const place = (e: number, at: "here" | "nowhere") => {
    engine.place(lateGate[e] as LateTensor, at === "here" ? gate[e] : undefined);
    engine.place(lateUp[e] as LateTensor, at === "here" ? up[e] : undefined);
  };
  engine.groupedMatmul("nt", y, x, gate, offsets, { beside: up });
  const expected = engine.read(y);
  const product = () => engine.groupedMatmul("nt", y, x, lateGate, offsets, { beside: lateUp });

  it.each([["in a list", 2], ["in a list, on one thread", 1], ["called one by one", 2]] as const)("are provided when ops come to them, if one of those with rows is missing: %s", (how, threads) => {
    engine.threads = threads;
    for (let e = 0; e < experts; e++) place(e, "nowhere");
    const seen: number[][] = [];
    const pass = () => {
      engine.fill(y, 0);
      for (let i = 0; i < 200; i++) engine.scale(y, y, 2);
      engine.demand(demand, () => {
        seen.push([...engine.read(demand.rows)]);
        for (const e of [0, 2, 3]) place(e, "here");
      });
      product();
    };
    const run = () => (how === "called one by one" ? pass() : engine.together(pass));
    run();
    expect(sameBits(engine.read(y), expected)).toBe(true);
    expect(seen).toEqual([[1, 0, 9, 2]]);
    run();
    expect(seen).toHaveLength(1); // expert 1 is nowhere, but has no rows
    demand.always = true;
    run();
    demand.always = false;
    engine.fill(view(demand.rows, [1]), -1);
    run();
    expect(seen).toEqual([[1, 0, 9, 2], [1, 0, 9, 2], [1, 0, 9, 2]]);
    expect(sameBits(engine.read(y), expected)).toBe(true);
    engine.threads = 2;
  });

  it("are asked for where a forecast names one that is nowhere", () => {
    for (const e of [0, 2, 3]) place(e, "here");
    const asks = (choices: number[], count = choices.length) => {
      let asked = false;
      const forecast = { likely: t.ints(choices), choices: count, there: demand.there };
      engine.together(() => engine.demand({ ...demand, forecast }, () => (asked = true)));
      return asked;
    };
    expect([asks([0, 2]), asks([3, 1]), asks([3, 1], 1), asks([-1])]).toEqual([false, true, false, false]);
    expect(() => asks([4])).toThrow(refused);
  });

  it("stop a list of ops several times, wherever it had to be run in between, and not at all after an error", () => {
    const order: number[] = [];
    const [out, sum] = [t.random([8]), t.random([8])];
    engine.fill(sum, 0);
    engine.fill(out, 1);
    engine.together(() => {
      for (let i = 0; i < 3000; i++) {
        engine.binary("add", sum, sum, out);
        if (i % 500 === 0) engine.demand({ ...demand, always: true }, () => order.push(engine.read(sum)[0] as number));
      }
    });
    expect(order).toEqual([1, 501, 1001, 1501, 2001, 2501]);
    expect(engine.read(sum)[0]).toBe(3000);

    const ends = () => {
      throw new RangeError("of what provides");
    };
    const failing = () => {
      engine.demand({ ...demand, always: true }, ends);
      engine.fill(sum, 0);
    };
    expect(() => engine.together(failing)).toThrow(RangeError);
    expect(engine.read(sum)[0]).toBe(3000);
    const broken = () => {
      engine.fill(new Tensor("f32", [8], 64), 0);
      failing();
    };
    expect(() => engine.together(broken)).toThrow(refused);
    expect(engine.read(sum)[0]).toBe(0);
  });

  it("are waited for while they are being read", () => {
    const dir = mkdtempSync(join(tmpdir(), "switchyard-late-"));
    const bytes = (gate[0] as Tensor).bytes;
    const page = Math.ceil(bytes / 4096) * 4096;
    const image = new Uint8Array(2 * experts * page);
    [...gate, ...up].forEach((matrix, i) => image.set(engine.read(matrix) as Uint8Array, i * page));
    writeFileSync(join(dir, "file"), image);
    const file = engine.openFile(join(dir, "file"));
    const region = engine.allocate(image.length);
    const slots = [...gate, ...up].map((_, i) => region.tensor("q4_k", [rows, cols], i * page));
    const reads: number[] = [];
    place(0, "here");
    engine.together(() => {
      engine.fill(y, 0);
      engine.demand({ ...demand, always: true }, () => {
        for (const e of [2, 3]) {
          for (const [late, i] of [[lateGate, e], [lateUp, experts + e]] as const) {
            reads.push(file.start(slots[i] as Tensor, i * page, true));
            engine.place(late[e] as LateTensor, slots[i], true);
          }
        }
      });
      product();
    });
    for (const read of reads) file.finish(read);
    expect(sameBits(engine.read(y), expected)).toBe(true);
    product(); // marked as being read, but there
    expect(sameBits(engine.read(y), expected)).toBe(true);
    place(2, "nowhere");
    expect(product).toThrow(refused);
    file.close();
    region.free();
    rmSync(dir, { recursive: true });
  });

  it("are taken in pairs that do not stand side by side, too", () => {
    for (let e = 0; e < experts; e++) place(e, "here");
    engine.fill(y, 0);
    engine.groupedMatmul("nt", y, x, lateUp, offsets, { beside: lateGate });
    const [swapped, width] = [engine.read(y), 2 * rows];
    expect(Array.from(swapped, (_, i) => expected[i - (i % width) + (((i % width) + rows) % width)])).toEqual([...swapped]);
  });
});
