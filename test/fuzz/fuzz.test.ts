import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fuzz, type TargetName, targets } from "./run.js";

const addon = process.env["SWITCHYARD_ADDON"] ?? new URL("../../build/switchyard.node", import.meta.url).pathname;

/** Those that make larger inputs, or do more with them, get fewer. */
const inputs: Partial<Record<TargetName, number>> = { config: 600, blocks: 1000 };

describe("a short run of every fuzz target (npm run fuzz has the long ones)", () => {
  it.for(Object.keys(targets) as TargetName[])("%s", (name, { skip }) => {
    if (name === "blocks" && !existsSync(addon)) skip("the addon is not built");
    const count = inputs[name] ?? 1500;
    const { accepted, refused } = fuzz(name, count, 1);
    expect(accepted).toBeGreaterThan(count / 20);
    expect(refused).toBeGreaterThan(count / 50);
  });

  it("the same seed gives the same inputs", () => {
    expect(fuzz("gguf", 300, 2)).toMatchObject({ accepted: fuzz("gguf", 300, 2).accepted });
    expect(() => fuzz("gguf", 1, 2, { first: 299 })).not.toThrow();
  });
});
