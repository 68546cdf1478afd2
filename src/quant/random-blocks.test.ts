import { describe, expect, it } from "vitest";
import { ggufTypes } from "../formats/gguf/types.js";
import { decodeBlocks } from "./codecs.js";
import { blockShaper, randomBytes, randomTypes } from "./random-blocks.js";

describe("random blocks", () => {
  it.each(randomTypes.flatMap((type) => [0.02, 0.002].map((std) => [type, std] as const)))("%s with deviation %d: finite, centred, of that size", (type, std) => {
    const bytes = randomBytes(7, 3)(2000 * ggufTypes[type].bytes);
    blockShaper(type, std)(bytes);
    const values = decodeBlocks(type, bytes);
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const rms = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
    expect(values.every(Number.isFinite)).toBe(true);
    // 2000 values, or 64,000 in blocks that share a sign.
    expect(Math.abs(mean)).toBeLessThan(0.1 * std);
    const isPowerOfTwo = ["F32", "F16", "BF16", "MXFP4"].includes(type);
    expect(rms / std).toBeGreaterThan(isPowerOfTwo ? 0.66 : 0.9);
    expect(rms / std).toBeLessThan(isPowerOfTwo ? 1.5 : 1.1);
  });

  it("the same seed and stream give the same bytes, however they are asked for", () => {
    const whole = randomBytes(1, 2)(100);
    const pieces = randomBytes(1, 2);
    expect([...pieces(33), ...pieces(67)]).toEqual([...whole]);
    expect(randomBytes(1, 3)(100)).not.toEqual(whole);
    expect(randomBytes(2, 2)(100)).not.toEqual(whole);
    // AES-128 of the zero block under the key 01 00 00 00 02 00 ...: the first bytes are the same on every machine.
    expect(Buffer.from(whole.subarray(0, 8)).toString("hex")).toBe("e880b8f9d9a17bbb");
  });

  it("says which types there are", () => {
    expect(() => blockShaper("IQ1_S", 1)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringContaining("F32, F16") }));
  });
});
