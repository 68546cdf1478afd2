import { describe, expect, it } from "vitest";
import { sameBits, TestTensors } from "../../test/engines.js";
import { randomBlocks } from "../../test/stored.js";
import { ReferenceEngine } from "../engine/reference.js";
import { type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { type StoredDType, storedBlocks } from "../tensor/dtype.js";
import { decodeFp8Blocks } from "./fp8.js";

/** GGUF has no 8-bit floats. */
it.each((Object.keys(storedBlocks) as StoredDType[]).filter((type) => !type.startsWith("fp8")))("%s has the blocks of GGUF's type of that name", (type) => {
  const { elements, bytes } = ggufTypes[type.toUpperCase() as GgufType];
  expect(storedBlocks[type]).toEqual([elements, bytes]);
});

describe.each(["F8_E4M3", "F8_E5M2"] as const)("%s", (type) => {
  it("means the same behind its scale as with scales apart", () => {
    const engine = new ReferenceEngine();
    using t = new TestTensors(engine, 1);
    const dtype = type === "F8_E4M3" ? "fp8_e4m3" : "fp8_e5m2";
    const blocks = randomBlocks(dtype, 8192, 3);
    const [scales, bytes] = [new Float32Array(64), new Uint8Array(8192)];
    for (let b = 0; b < 64; b++) {
      scales[b] = new DataView(blocks.buffer).getFloat32(132 * b, true);
      bytes.set(blocks.subarray(132 * b + 4, 132 * (b + 1)), 128 * b);
    }
    const out = t.random([8, 1024]);
    engine.gatherRows(out, t.of(dtype, [8, 1024], blocks), t.ints([0, 1, 2, 3, 4, 5, 6, 7]));
    expect(sameBits(engine.read(out), decodeFp8Blocks(type, bytes, [8, 1024], scales, [1, 128]))).toBe(true);
  });
});
