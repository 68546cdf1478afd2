import { describe, expect, it } from "vitest";
import { GgufMetadata } from "../../formats/gguf/metadata.js";
import { modelConfig, type MoeOptions } from "../presets.js";
import { writeGgufConfig } from "./gguf.js";

const options = { vocab: 100, width: 32, layers: 3, heads: 4 };
const written = (moe: MoeOptions, more: { kvHeads?: number } = {}) => {
  const { architecture, metadata } = writeGgufConfig(modelConfig({ ...options, ...more, moe }));
  return { arch: architecture.arch, keys: new GgufMetadata(metadata, "test") };
};

describe("the architecture of GGUF is one of which llama.cpp loads the model", () => {
  it.each<[string, MoeOptions, { kvHeads?: number }, string]>([
    ["a shared expert everywhere", { shared: 1 }, {}, "qwen2moe"],
    ["sigmoids and a shared expert", { router: "deepseek-v3", shared: 1, layers: { firstDense: 1 } }, {}, "dots1"],
    ["sigmoids alone, for dots1 has shared experts", { router: "deepseek-v3" }, {}, "glm4moe"],
    ["fewer heads of keys, for dots1 has as many as of queries", { router: "deepseek-v3", shared: 1 }, { kvHeads: 2 }, "glm4moe"],
  ])("%s", (_, moe, more, arch) => {
    expect(written(moe, more).arch).toBe(arch);
  });

  it.each<[string, MoeOptions]>([
    ["qwen3moe", { layers: { firstDense: 1 } }],
    ["qwen2moe", { shared: 1, layers: "every-other" }],
  ])("%s has no dense layers", (_, moe) => {
    expect(() => written(moe)).toThrow(/no architecture of GGUF expresses this model/);
  });

  it("that there are no shared experts is said to glm4moe", () => {
    expect(written({ router: "deepseek-v3" }).keys.integer("glm4moe.expert_shared_count")).toBe(0);
    expect(written({ router: "deepseek-v3", shared: 2 }, { kvHeads: 2 }).keys.integer("glm4moe.expert_shared_count")).toBe(2);
  });
});
