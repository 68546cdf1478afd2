import { z } from "zod";
import { conform, isJsonObject, type Json } from "../../formats/json.js";
import { checkModelConfig, type ModelConfig } from "../config.js";
import { families } from "./families.js";
import type { Family } from "./family.js";

/** What no published family expresses is saved under our own model_type: Qwen3-MoE's tensor names, our config as it is. */
export const ownFamily: Family = {
  ...(families.find((family) => family.modelType === "qwen3_moe") as Family),
  modelType: "switchyard",
  architecture: "SwitchyardForCausalLM",
};

const activation = z.enum(["silu", "gelu", "gelu-tanh", "relu", "relu2"]);
const schema = z.object({
  vocab: z.number(),
  width: z.number(),
  layers: z.number().max(10_000),
  heads: z.number(),
  kvHeads: z.number(),
  headDim: z.number(),
  context: z.number(),
  normEps: z.number(),
  tiedEmbeddings: z.boolean(),
  qkvBias: z.boolean(),
  outputBias: z.boolean(),
  qkNorm: z.enum(["none", "head", "row"]),
  ropes: z.array(z.object({ theta: z.number() })),
  mixers: z.array(z.object({ kind: z.literal("attention"), rope: z.number().optional() })),
  activation,
  hidden: z.number(),
  sparseLayers: z.array(z.number()),
  moe: z
    .object({
      experts: z.number(),
      active: z.number(),
      hidden: z.number(),
      activation,
      gated: z.boolean(),
      /** `checkModelConfig` goes through it field by field. */
      router: z.any(),
      shared: z.object({ hidden: z.number(), combine: z.enum(["add", "sigmoid", "softmax"]) }).optional(),
    })
    .optional(),
});

/** The config inside a config.json of our own model_type. Throws ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_CONFIG naming the field. */
export function readOwnConfig(json: Json, file: string): ModelConfig {
  const own = isJsonObject(json) ? (json["switchyard"] ?? null) : null;
  return checkModelConfig(conform(schema, own, `${file}: switchyard`) as ModelConfig);
}
