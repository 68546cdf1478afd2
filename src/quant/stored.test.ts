import { describe, expect, it } from "vitest";
import { sameBits, TestTensors } from "../../test/engines.js";
import { randomBlocks } from "../../test/stored.js";
import { ReferenceEngine } from "../engine/reference.js";
import { type GgufType, ggufTypes } from "../formats/gguf/types.js";
import { type StoredDType, storedBlocks } from "../tensor/dtype.js";
import { decodeBlocks } from "./codecs.js";

/** The engine reads blocks by tables of its own, because it stands before the formats: they must say what the codecs say. */
describe.each(Object.keys(storedBlocks) as StoredDType[])("%s", (type) => {
  const name = (Object.keys(ggufTypes) as GgufType[]).find((gguf) => gguf.toLowerCase() === type) as GgufType;

  it("has the blocks of GGUF's type of that name", () => {
    const { elements, bytes } = ggufTypes[name];
    expect(storedBlocks[type]).toEqual([elements, bytes]);
  });

  it("means the same to the engine as to the codec", () => {
    const engine = new ReferenceEngine();
    using t = new TestTensors(engine, 1);
    const bytes = randomBlocks(type, 8192, 3);
    const out = t.random([8, 1024]);
    engine.gatherRows(out, t.of(type, [8, 1024], bytes), t.ints([0, 1, 2, 3, 4, 5, 6, 7]));
    expect(sameBits(engine.read(out), decodeBlocks(name, bytes))).toBe(true);
  });
});
