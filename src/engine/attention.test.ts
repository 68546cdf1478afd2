import fc from "fast-check";
import { expect, it } from "vitest";
import { describeVariants, nmse, rowOf, sameBits, TestTensors } from "../../test/engines.js";
import type { TypedArray } from "../tensor/dtype.js";
import { Tensor } from "../tensor/tensor.js";
import type { AttentionDims, Engine } from "./engine.js";
import { loadEngine } from "./load.js";
import { ReferenceEngine } from "./reference.js";

const reference = new ReferenceEngine();

function dims(batch: number, queries: number, keys: number, kvHeads: number, group: number, headDim: number, spare = 0): AttentionDims {
  return { batch, queries, keys, keyStride: keys + spare, heads: kvHeads * group, kvHeads, headDim, scale: 1 / Math.sqrt(headDim) };
}

/** out, lse, and dq, dk, dv when there is no spare room in the cache: of the given `out`, or of the one that was computed. */
function run(engine: Engine, d: AttentionDims, seed: number, given?: number): TypedArray[] {
  using t = new TestTensors(engine, seed);
  const wide = [d.batch * d.queries, d.heads * d.headDim];
  const cache = [d.batch * d.keyStride, d.kvHeads * d.headDim];
  const [q, out, dout, dq] = [t.random(wide), t.random(wide), t.random(wide), t.random(wide)];
  const [k, v, dk, dv] = [t.random(cache), t.random(cache), t.random(cache), t.random(cache)];
  const lse = t.random([d.batch * d.queries, d.heads]);
  engine.attention(out, lse, q, k, v, d);
  if (d.keyStride !== d.keys) return [out, lse].map((x) => engine.read(x));
  if (given !== undefined) engine.fill(out, given);
  engine.attentionBackward(dq, dk, dv, undefined, dout, q, k, v, out, lse, d);
  return [out, lse, dq, dk, dv].map((x) => engine.read(x));
}

function expectEqual(engine: Engine, d: AttentionDims, seed: number): void {
  const expected = run(reference, d, seed);
  // dq and dk are sums of p (dp - dout out) times keys and queries, whose two parts cancel where few keys are seen: they are held to the first part.
  const [, , ...firstParts] = run(reference, d, seed, 0);
  for (const [i, got] of run(engine, d, seed).entries()) expect(nmse(got, expected[i], i === 2 || i === 3 ? firstParts[i - 2] : expected[i]), `output ${i} of ${JSON.stringify(d)}`).toBeLessThan(1e-10);
}

describeVariants("attention", (isa) => {
  const engine = loadEngine({ engine: "native", isa, threads: 2 });

  it("equals the reference for any shape", () => {
    const small = fc.integer({ min: 1, max: 4 });
    fc.assert(
      fc.property(small, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 30 }), small, small, fc.constantFrom(1, 3, 8, 16, 20, 33), fc.nat(4), fc.nat(1e6),
        (batch, queries, past, kvHeads, group, headDim, spare, seed) => {
          expectEqual(engine, dims(batch, queries, queries + past, kvHeads, group, headDim, spare), seed);
        }),
      { numRuns: 50 },
    );
  });

  it("equals the reference over several blocks of queries and keys", () => {
    for (const d of [dims(1, 200, 200, 2, 1, 64), dims(2, 70, 300, 1, 3, 32), dims(1, 100, 100, 1, 9, 128), dims(1, 1, 600, 2, 4, 64, 7)]) expectEqual(engine, d, 3);
    expectEqual(engine, dims(1, 1, 1, 2, 1, 8), 437038); // one key: dq and dk are 0
  });

  it("with scores summed in double precision loses less where they are large, and a query has the same bits alone", () => {
    using t = new TestTensors(engine, 7);
    const d = { ...dims(1, 9, 40, 2, 3, 64), scale: 2 };
    const [q, k, v, out, lse] = [t.random([9, 384]), t.random([40, 128]), t.random([40, 128]), t.random([9, 384]), t.random([9, 6])];
    const loss = (precision: "f32" | "f64") => {
      engine.attention(out, lse, q, k, v, { ...d, precision });
      return nmse(engine.read(out), exact);
    };
    using e = new TestTensors(reference, 7);
    const same = [q, k, v, out, lse].map((x) => e.of("f32", x.shape, engine.read(x))) as [Tensor, Tensor, Tensor, Tensor, Tensor];
    reference.attention(same[3], same[4], same[0], same[1], same[2], d);
    const exact = reference.read(same[3]);
    expect(loss("f64")).toBeLessThan(loss("f32") / 2);
    loss("f64");
    const [one, oneLse] = [t.random([1, 384]), t.random([1, 6])];
    engine.attention(one, oneLse, rowOf(q, 8), k, v, { ...d, queries: 1, precision: "f64" });
    expect(sameBits(engine.read(one), engine.read(out).slice(8 * 384))).toBe(true);
    const half = t.of("f16", [40, 128], new Uint8Array(2 * 40 * 128));
    expect(() => engine.attention(out, lse, q, half, half, { ...d, precision: "f64" })).toThrow(/f64/);
  });

  it("keeps extreme scores finite", () => {
    using t = new TestTensors(engine, 1);
    const shape = [20, 8];
    const of = (value: number) => t.of("f32", shape, new Float32Array(160).fill(value));
    const [q, k, v, out, lse] = [of(1e4), of(1e4), t.random(shape), of(0), t.of("f32", [20, 1], new Float32Array(20))];
    engine.attention(out, lse, q, k, v, dims(1, 20, 20, 1, 1, 8));
    expect(engine.read(out).every(Number.isFinite)).toBe(true);
    expect(engine.read(lse)[0]).toBeCloseTo(8e8 / Math.sqrt(8), -3);
  });

  it.each([{}, { window: 50 }, { chunk: 64 }, { window: 21, chunk: 100, valueDim: 24 }, { group: 1 }, { group: 8 }, { group: 16 }])("gives a token the same bits with and without cache, alone and in a batch, on one thread and two: %j", ({ group = 2, ...how }: Partial<AttentionDims> & { group?: number }) => {
    using t = new TestTensors(engine, 4);
    const [batch, keys, headDim, room] = [3, 300, 40, 310];
    const { valueDim = headDim } = how;
    const full = { ...dims(batch, keys, keys, 2, group, headDim), ...how };
    const { heads } = full;
    const width = { q: heads * headDim, k: 2 * headDim, v: 2 * valueDim, out: heads * valueDim };
    const [q, k, v, sinks] = [t.random([batch * keys, width.q]), t.random([batch * keys, width.k]), t.random([batch * keys, width.v]), t.random([heads])];
    const [out, lse] = [t.random([batch * keys, width.out]), t.random([batch * keys, heads])];
    engine.attention(out, lse, q, k, v, full, { sinks });
    const [expectedOut, expectedLse] = [engine.read(out), engine.read(lse)];
    engine.threads = 1;
    engine.attention(out, lse, q, k, v, full, { sinks });
    engine.threads = 2;
    expect(sameBits(engine.read(out), expectedOut)).toBe(true);
    // Sequence 1 alone, its last token after a cache with room to spare, garbage in the room.
    const row = 2 * keys - 1;
    const cached = (x: Tensor, columns: number) => {
      const values = new Float32Array(room * columns).fill(Number.NaN);
      values.set(engine.read(x).subarray(keys * columns, 2 * keys * columns));
      return t.of("f32", [room, columns], values);
    };
    const one = t.of("f32", [1, width.q], engine.read(q).subarray(row * width.q, (row + 1) * width.q));
    const [oneOut, oneLse] = [t.random([1, width.out]), t.random([1, heads])];
    engine.attention(oneOut, oneLse, one, cached(k, width.k), cached(v, width.v), { ...full, batch: 1, queries: 1, keyStride: room }, { sinks });
    expect(sameBits(engine.read(oneOut), expectedOut.slice(row * width.out, (row + 1) * width.out))).toBe(true);
    expect(sameBits(engine.read(oneLse), expectedLse.slice(row * heads, (row + 1) * heads))).toBe(true);
  });

  it.each([[1, 1], [1, 4], [1, 16], [70, 2]])("gives the same bits for f16 keys and values as for their f32 numbers: %d queries, %d heads per key", (queries, group) => {
    using t = new TestTensors(engine, 5);
    const d = dims(1, queries, 333, 2, group, 24, 3);
    const rows = t.ints(Array.from({ length: 336 }, (_, i) => i));
    const half = t.of("f16", [336, 48], new Uint8Array(336 * 96));
    engine.copy(half, t.random([336, 48]));
    const wide = t.random([336, 48]);
    engine.gatherRows(wide, half, rows);
    const [q, out, lse] = [t.random([queries, 2 * group * 24]), t.random([queries, 2 * group * 24]), t.random([queries, 2 * group])];
    engine.attention(out, lse, q, wide, wide, d);
    const expected = engine.read(out);
    engine.attention(out, lse, q, half, half, d);
    expect(sameBits(engine.read(out), expected)).toBe(true);
    expect(() => engine.attention(out, lse, q, half, wide, d)).toThrow(/expected k and v of one type/);
    expect(() => engine.attentionBackward(q, wide, wide, undefined, out, q, half, half, out, lse, { ...d, keys: 336 })).toThrow(/k and v must be f32/);
  });

  it("reads none of the keys that a window leaves behind", () => {
    using t = new TestTensors(engine, 6);
    const d = { ...dims(1, 1, 600, 1, 2, 16), window: 100 };
    const behind = (x: TypedArray) => t.of("f32", [600, 16], x.map((value, i) => (i < 16 * 496 ? Number.NaN : value)));
    const [q, k, v] = [t.random([1, 32]), t.random([600, 16]), t.random([600, 16])];
    const [out, lse] = [t.random([1, 32]), t.random([1, 2])];
    engine.attention(out, lse, q, k, v, d);
    const expected = engine.read(out);
    engine.attention(out, lse, q, behind(engine.read(k)), behind(engine.read(v)), d);
    expect(sameBits(engine.read(out), expected)).toBe(true);
  });

  it("refuses dimensions that do not fit the memory", () => {
    using t = new TestTensors(engine, 1);
    const [x, lse] = [t.random([4, 8]), t.random([4, 1])];
    const d = dims(1, 4, 4, 1, 1, 8);
    engine.attention(x, lse, x, x, x, d);
    for (const bad of [{ ...d, keys: 3 }, { ...d, keyStride: 3 }, { ...d, kvHeads: 0 }, { ...d, batch: 2 ** 20 }, { ...d, headDim: 0.5 }, { ...d, heads: 3, kvHeads: 2 }, { ...d, valueDim: 9 }, { ...d, valueStride: 7 }, { ...d, valueStride: 9 }, { ...d, valueStride: 2 ** 31 }, { ...d, window: -1 }]) {
      expect(() => engine.attention(x, lse, x, x, x, bad), JSON.stringify(bad)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_ENGINE" }));
    }
    for (const shape of [[2, 1, 4, 4], [1, 2, 4, 4], [1, 1, 4, 1024]]) {
      const bias = new Tensor("f32", shape, x.storage);
      expect(() => engine.attention(x, lse, x, x, x, { ...d, keys: shape[3], keyStride: shape[3] }, { bias }), `bias ${bias}`).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_ENGINE" }));
    }
  });
});
