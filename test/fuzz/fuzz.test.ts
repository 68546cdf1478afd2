import { describe, expect, it } from "vitest";
import { fuzz, type TargetName, targets } from "./run.js";

describe("a short run of every fuzz target (npm run fuzz has the long ones)", () => {
  it.each(Object.keys(targets) as TargetName[])("%s", (name) => {
    const { accepted, refused } = fuzz(name, 4000, 1);
    expect(accepted).toBeGreaterThan(200);
    expect(refused).toBeGreaterThan(1000);
  });

  it("the same seed gives the same inputs", () => {
    expect(fuzz("gguf", 300, 2)).toMatchObject({ accepted: fuzz("gguf", 300, 2).accepted });
    expect(() => fuzz("gguf", 1, 2, { first: 299 })).not.toThrow();
  });
});
