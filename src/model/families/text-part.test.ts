import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { ReferenceEngine } from "../../engine/reference.js";
import { openCheckpointTensors, readAsF32, writeCheckpointTensors } from "../../formats/checkpoint.js";
import type { JsonObject } from "../../formats/json.js";
import type { TensorToWrite } from "../../formats/safetensors-writer.js";
import { LanguageModel } from "../language-model.js";
import { readHfConfig } from "./hf-config.js";

const root = mkdtempSync(join(tmpdir(), "switchyard-text-part-"));
afterAll(() => rmSync(root, { recursive: true }));

const written = (name: string, shape: readonly number[], values: readonly number[]): TensorToWrite => ({
  name,
  dtype: "F32",
  shape: [...shape],
  *chunks() {
    yield new Uint8Array(Float32Array.from(values).buffer);
  },
});

it("Llama 4 with eyes: its language model is read, and saved alone", async () => {
  const engine = new ReferenceEngine();
  const text = {
    model_type: "llama4_text", vocab_size: 32, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 32,
    intermediate_size: 8, intermediate_size_mlp: 12, num_local_experts: 2, interleave_moe_layer_step: 2, tie_word_embeddings: false,
  };
  const [alone, whole, again] = ["alone", "whole", "again"].map((name) => join(root, name)) as [string, string, string];
  using model = LanguageModel.create({ config: readHfConfig(text, "config.json").config, engine, seed: 1 });
  await model.save(alone);
  const tensors = [...openCheckpointTensors(alone)].map(([name, tensor]): TensorToWrite => {
    const values = [...readAsF32(tensor)].flatMap((part) => [...part]);
    return written(`language_model.${name}`, tensor.shape, values);
  });
  mkdirSync(whole);
  await writeCheckpointTensors(whole, [...tensors, written("vision_model.class_embedding", [1], [0])]);
  writeFileSync(join(whole, "config.json"), JSON.stringify({ model_type: "llama4", text_config: text, vision_config: {} }));

  using loaded = await LanguageModel.load(whole, { engine });
  for (const { name, tensor } of model.parameters.list) expect(engine.read(loaded.parameters.get(name)), name).toEqual(engine.read(tensor));
  await loaded.save(again);
  const json = JSON.parse(readFileSync(join(again, "config.json"), "utf8")) as JsonObject;
  expect([json["model_type"], json["architectures"], json["text_config"]]).toEqual(["llama4_text", ["Llama4ForCausalLM"], undefined]);
  expect([...openCheckpointTensors(again).keys()]).toEqual([...openCheckpointTensors(alone).keys()]);
});
