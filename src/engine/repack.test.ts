import { describe, expect, it } from "vitest";
import { engines } from "../../test/op-maker.js";
import { decodeBlocks } from "../quant/codecs.js";
import { decodeFp8Blocks } from "../quant/fp8.js";
import { decodeMxfp4Pairs } from "../quant/fp4.js";
import { byteLength, type StoredDType } from "../tensor/dtype.js";
import { Random } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { Arena } from "./arena.js";
import type { Engine, LooseRows } from "./engine.js";
import { ReferenceEngine } from "./reference.js";

interface Case {
  dtype: StoredDType;
  rows: number;
  cols: number;
  scales?: number;
  options?: Pick<LooseRows, "block" | "scaleType">;
}

const cases: Case[] = [
  { dtype: "mxfp4", rows: 70, cols: 96, scales: 70 * 3 },
  { dtype: "fp8_e4m3", rows: 200, cols: 384, scales: 4 * 2 * 3, options: { block: [128, 128], scaleType: "f32" } },
  { dtype: "fp8_e5m2", rows: 33, cols: 384, scales: 2 * 5 * 2, options: { block: [7, 256], scaleType: "bf16" } },
  { dtype: "bf16", rows: 67, cols: 45 },
  { dtype: "f16", rows: 1, cols: 3 },
];
const random = new Random(3);
const someBytes = (n: number): Uint8Array<ArrayBuffer> => Uint8Array.from({ length: n }, () => random.below(256));

/** The bytes of `outRows` rows, those that none goes to being zeros. */
function run(engine: Engine, { dtype, rows, cols, options }: Case, elements: Uint8Array, scales: Uint8Array | undefined, outRows: number, places?: Int32Array): Uint8Array<ArrayBuffer> {
  using arena = new Arena(engine);
  const tensor = (bytes: Uint8Array): Tensor => {
    const t = arena.alloc("u8", [bytes.length]);
    engine.write(t, bytes);
    return t;
  };
  const out = arena.alloc(dtype, [outRows, cols]);
  engine.write(out, new Uint8Array(byteLength(dtype, outRows * cols)));
  const index = places && arena.alloc("i32", [rows]);
  if (index !== undefined) engine.write(index, places as Int32Array);
  engine.repack(out, { rows, elements: tensor(elements), scales: scales && tensor(scales), places: index, ...options });
  return Uint8Array.from(engine.read(out));
}

describe.each(cases)("repack to $dtype, $rows rows of $cols", (shape) => {
  const { dtype, rows, cols } = shape;
  const size = dtype === "mxfp4" ? 0.5 : dtype.startsWith("fp8") ? 1 : 2;
  const [elements, scales] = [someBytes(rows * cols * size), shape.scales === undefined ? undefined : someBytes(shape.scales)];
  const places = Int32Array.from({ length: rows }, (_, r) => (r % 9 === 5 ? -1 : rows - r));
  const native = engines.filter(({ name }) => name === "native");

  it.skipIf(native.length === 0)("is what the reference gives, in order or elsewhere, on any number of threads", () => {
    const reference = new ReferenceEngine();
    const want = [run(reference, shape, elements, scales, rows), run(reference, shape, elements, scales, rows + 1, places)];
    for (const engine of native) {
      for (const threads of [1, 3]) {
        const before = engine.threads;
        engine.threads = threads;
        expect([run(engine, shape, elements, scales, rows), run(engine, shape, elements, scales, rows + 1, places)]).toEqual(want);
        engine.threads = before;
      }
    }
  });

  it("keeps the elements, and puts them where they belong", () => {
    const reference = new ReferenceEngine();
    const [inOrder, placed] = [run(reference, shape, elements, scales, rows), run(reference, shape, elements, scales, rows + 1, places)];
    const perRow = byteLength(dtype, cols);
    const row = (bytes: Uint8Array, r: number) => bytes.subarray(r * perRow, (r + 1) * perRow);
    places.forEach((place, r) => place >= 0 && expect(row(placed, place)).toEqual(row(inOrder, r)));
    expect([...row(placed, 0)].some((byte) => byte !== 0)).toBe(false);
    if (dtype === "mxfp4") expect(decodeBlocks("MXFP4", inOrder)).toEqual(decodeMxfp4Pairs(elements, scales as Uint8Array));
    if (dtype === "fp8_e4m3") {
      const all = decodeFp8Blocks("F8_E4M3", elements, [rows, cols], new Float32Array((scales as Uint8Array<ArrayBuffer>).buffer), [128, 128]);
      const f32 = new DataView(inOrder.buffer);
      const [r, block] = [rows - 1, 2];
      const at = r * perRow + block * 132;
      const one = decodeFp8Blocks("F8_E4M3", inOrder.slice(at + 4, at + 132), [1, 128], Float32Array.of(f32.getFloat32(at, true)), [1, 128]);
      expect(one).toEqual(all.slice(r * cols + block * 128, r * cols + block * 128 + 128));
    }
    if (dtype === "bf16") expect(Uint16Array.from({ length: rows }, (_, r) => new Uint16Array(inOrder.buffer)[r * cols + 7] as number)).toEqual(new Uint16Array(elements.buffer).subarray(7 * rows, 8 * rows));
  });
});

describe.skipIf(!engines.some(({ name }) => name === "native"))("repack refuses", () => {
  const engine = engines.find(({ name }) => name === "native") as Engine;
  const shape: Case = { dtype: "mxfp4", rows: 2, cols: 32 };
  it.each<[string, Partial<Case>, number, Int32Array | undefined, RegExp]>([
    ["a place beyond the last row", {}, 2, Int32Array.of(0, 2), /places/],
    ["more rows than there is room for", {}, 1, undefined, /2 rows do not fit in 1/],
    ["another type", { dtype: "q8_0" }, 2, undefined, /out must be/],
    ["blocks of other widths", { dtype: "fp8_e4m3", cols: 128, options: { block: [1, 64] } }, 2, undefined, /multiple of 128/],
  ])("%s", (_, change, rows, places, message) => {
    expect(() => run(engine, { ...shape, ...change }, someBytes(256), someBytes(64), rows, places)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_ENGINE", message: expect.stringMatching(message) }));
  });
});
