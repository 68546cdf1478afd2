import { describe, expect, it } from "vitest";
import type { Json } from "../../formats/json.js";
import { readHfConfig } from "./hf-config.js";

/* Fields of published config.json files that are spelled otherwise than transformers writes them, or that it does not heed. */

const read = (json: Json) => readHfConfig(json, "config.json").config;
const sizes = { vocab_size: 97, hidden_size: 48, num_hidden_layers: 4, num_attention_heads: 6, max_position_embeddings: 128, intermediate_size: 40, head_dim: 8 };
const hunyuan = { ...sizes, model_type: "hunyuan_v1_moe", num_experts: 4, moe_topk: 2 };
const cohere = { ...sizes, model_type: "cohere2_moe", num_experts: 4, num_experts_per_tok: 2 };
const llama4 = { ...sizes, model_type: "llama4_text", num_key_value_heads: 2, num_local_experts: 2, intermediate_size_mlp: 24 };
const mistral4 = {
  ...sizes, model_type: "mistral4", num_key_value_heads: 6, n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 16, q_lora_rank: 12, kv_lora_rank: 20,
  qk_rope_head_dim: 6, qk_nope_head_dim: 10, v_head_dim: 12,
};

describe("config.json as published", () => {
  it("Hunyuan-A13B: numbers of each layer in lists, of which experts are as wide as intermediate_size", () => {
    const lists = { moe_topk: [2, 2, 2, 2], moe_intermediate_size: [40, 40, 40, 40], num_shared_expert: [1, 1, 1, 1] };
    expect(read({ ...hunyuan, ...lists })).toEqual({ ...read(hunyuan), published: { ...hunyuan, ...lists } });
    expect(() => read({ ...hunyuan, moe_topk: [1, 2, 2, 2] })).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(/moe_topk/) }));
  });

  it("Llama 4 Scout: a number as the switch of temperatures", () => {
    expect(read({ ...llama4, attn_temperature_tuning: 4 }).mixers).toEqual(read(llama4).mixers);
    expect(read({ ...llama4, attn_temperature_tuning: false }).mixers).not.toEqual(read(llama4).mixers);
  });

  it("Cohere's rotary embedding is that of rope_parameters, without rope_scaling", () => {
    const linear = { rope_type: "linear", factor: 2, rope_theta: 500 };
    expect(read({ ...cohere, rope_theta: 500, rope_scaling: linear }).ropes).toEqual(read({ ...cohere, rope_theta: 500 }).ropes);
    expect(read({ ...cohere, rope_parameters: linear }).ropes[0]?.scaling?.factors).toEqual([2, 2, 2, 2]);
  });

  it("Mistral 4 with eyes: its language model; that of another family is refused", () => {
    const { published: _, ...seen } = read({ model_type: "mistral3", text_config: mistral4, vision_config: {} });
    expect(seen).toEqual((({ published: __, ...alone }) => alone)(read(mistral4)));
    expect(() => read({ model_type: "mistral3", text_config: { ...sizes, model_type: "ministral3" } })).toThrow(
      expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(/text_config: model_type "ministral3".*expected "mistral4"/) }),
    );
  });

  it("activations under every name that they have", () => {
    const activation = (name: string) => read({ ...sizes, model_type: "llama", hidden_act: name }).activation;
    expect(["gelu", "gelu_python"].map(activation)).toEqual(["gelu", "gelu"]);
    for (const name of ["gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"]) expect(activation(name), name).toBe("gelu-tanh");
    expect(() => activation("mish")).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_UNSUPPORTED", message: expect.stringMatching(/hidden_act "mish"/) }));
  });
});
