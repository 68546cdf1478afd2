import { z } from "zod";
import { conform, isJsonObject, type Json } from "../../formats/json.js";
import { checkModelConfig, type ModelConfig } from "../config.js";
import type { Architecture } from "./family.js";
import { maxLayers } from "./fields.js";
import { mixerLayouts } from "./mixer-layouts.js";

/** What no published family expresses is saved under our own model_type: our own tensor names, our config as it is. */
export const ownFamily: Architecture = { modelType: "switchyard", architecture: "SwitchyardForCausalLM", names: mixerLayouts.own };

const scaling = { factors: z.array(z.number()), magnitude: z.number() };
const temperature = z.object({ factor: z.number(), period: z.number(), from: z.number() }).optional();
const activation = z.enum(["silu", "gelu", "gelu-tanh", "quick-gelu", "relu", "relu2"]);
const size = z.number().int().positive();
const blend = z.object({ kept: z.number(), added: z.number() });
const schema = z.object({
  vocab: z.number(),
  width: z.number(),
  layers: z.number().max(maxLayers),
  heads: z.number(),
  kvHeads: z.number(),
  headDim: z.number(),
  context: z.number(),
  normEps: z.number(),
  normOffset: z.number().optional(),
  layerNorm: z.object({ bias: z.boolean() }).optional(),
  branches: z.enum(["after", "around", "parallel", "normed"]).optional(),
  blend: z.object({ attention: z.array(blend), ffn: blend }).optional(),
  tiedEmbeddings: z.boolean(),
  headBias: z.boolean().optional(),
  embeddingScale: z.number().optional(),
  residualScale: z.number().optional(),
  logitScale: z.number().optional(),
  qkvBias: z.boolean(),
  outputBias: z.boolean(),
  qkNorm: z.enum(["none", "head", "row", "rotated-head", "rotated-unit"]),
  clipQkv: z.number().optional(),
  attentionScale: z.number().optional(),
  sinks: z.boolean().optional(),
  outputGate: z.object({ bias: z.boolean() }).optional(),
  latent: z.object({ queryRank: z.number().optional(), rank: z.number(), unrotated: z.number(), value: z.number(), normEps: z.number() }).optional(),
  ropes: z.array(z.object({ theta: z.number(), rotary: z.number(), interleaved: z.boolean(), scaling: z.object(scaling).optional(), long: z.object({ ...scaling, beyond: z.number() }).optional() })),
  mixers: z.array(
    z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("attention"), rope: z.number().optional(), window: z.number().optional(), chunk: z.number().optional(), temperature }),
      z.object({ kind: z.literal("latent"), rope: z.number(), index: z.object({ heads: size, headDim: size, topK: size }).optional(), temperature }),
      z.object({ kind: z.literal("shortConv"), kernel: size, bias: z.boolean() }),
      z.object({ kind: z.literal("deltaNet"), heads: size, keyHeads: size, keyDim: size, valueDim: size, kernel: size }),
      z.object({ kind: z.literal("lightning"), tables: size.optional() }),
      z.object({ kind: z.literal("mamba"), channels: size, states: size, rank: size, kernel: size, kernelBias: z.boolean(), bias: z.boolean() }),
    ]),
  ),
  activation,
  hidden: z.number(),
  ffnBias: z.boolean().optional(),
  sparseLayers: z.array(z.number()),
  moe: z
    .object({
      experts: z.number(),
      active: z.number(),
      hidden: z.number(),
      activation,
      gated: z.boolean(),
      limit: z.number().optional(),
      upOffset: z.number().optional(),
      weightOn: z.literal("input").optional(),
      bias: z.boolean().optional(),
      /** `checkModelConfig` goes through it field by field. */
      router: z.any(),
      shared: z.object({ hidden: z.number(), combine: z.enum(["add", "average", "sigmoid", "softmax"]) }).optional(),
    })
    .optional(),
});

/** The config inside a config.json of our own model_type. Throws ERR_SWITCHYARD_FORMAT or ERR_SWITCHYARD_CONFIG naming the field. */
export function readOwnConfig(json: Json, file: string): ModelConfig {
  const own = isJsonObject(json) ? (json["switchyard"] ?? null) : null;
  return checkModelConfig(conform(schema, own, `${file}: switchyard`) as ModelConfig);
}
