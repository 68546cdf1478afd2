import { check, SwitchyardError } from "../../errors.js";
import type { GgufMetadata, GgufValue } from "../../formats/gguf/metadata.js";
import type { Gguf } from "../../formats/gguf/open.js";
import type { JsonObject } from "../../formats/json.js";
import type { ModelConfig } from "../config.js";
import { type KnownModel, readHfConfig, writeHfConfig } from "./hf-config.js";

/** A GGUF architecture and the family of Hugging Face's whose model it holds. */
interface Architecture {
  /** `general.architecture`, and the prefix of its keys. */
  arch: string;
  modelType: string;
  sparse: boolean;
  /** Rows of q and k are stored pair by pair of the rotation (x0, x1), not all first halves before all second (llama.cpp's LLAMA_ROPE_TYPE_NORM). */
  interleaved: boolean;
  /** Whether the chosen experts' weights are renormalised where the file does not say: what llama.cpp computes for this architecture. */
  normalised?: boolean;
}

const architectures: readonly Architecture[] = [
  { arch: "llama", modelType: "llama", sparse: false, interleaved: true },
  { arch: "llama", modelType: "mixtral", sparse: true, interleaved: true },
  { arch: "qwen3", modelType: "qwen3", sparse: false, interleaved: false },
  { arch: "olmoe", modelType: "olmoe", sparse: true, interleaved: false, normalised: false },
  { arch: "qwen2moe", modelType: "qwen2_moe", sparse: true, interleaved: false, normalised: false },
  { arch: "qwen3moe", modelType: "qwen3_moe", sparse: true, interleaved: false, normalised: true },
];

/** Keys below the architecture's name, and the fields of config.json with the same meaning. */
const integers: readonly (readonly [key: string, field: string, need: "always" | "sparse" | "optional"])[] = [
  ["block_count", "num_hidden_layers", "always"],
  ["context_length", "max_position_embeddings", "always"],
  ["embedding_length", "hidden_size", "always"],
  ["feed_forward_length", "intermediate_size", "always"],
  ["attention.head_count", "num_attention_heads", "always"],
  ["attention.head_count_kv", "num_key_value_heads", "optional"],
  ["attention.key_length", "head_dim", "optional"],
  ["expert_count", "num_experts", "sparse"],
  ["expert_used_count", "num_experts_per_tok", "sparse"],
  ["expert_feed_forward_length", "moe_intermediate_size", "optional"],
  ["expert_shared_feed_forward_length", "shared_expert_intermediate_size", "optional"],
];
const floats = [
  ["attention.layer_norm_rms_epsilon", "rms_norm_eps"],
  ["rope.freq_base", "rope_theta"],
  ["attention.clamp_kqv", "clip_qkv"],
] as const;

/** What a file may say only if it says the usual: anything else would be another function than ours. */
function checkUnused(m: GgufMetadata, arch: string, headDim: number): void {
  const refuse = (key: string, value: unknown, usual: unknown) =>
    check(value === usual, "ERR_SWITCHYARD_UNSUPPORTED", () => `${m.source}: metadata "${arch}.${key}": ${JSON.stringify(value)} is not supported, only ${JSON.stringify(usual)}`);
  refuse("attention.sliding_window", m.integer(`${arch}.attention.sliding_window`, 0), 0);
  refuse("rope.scaling.type", m.string(`${arch}.rope.scaling.type`, "none"), "none");
  refuse("rope.dimension_count", m.integer(`${arch}.rope.dimension_count`, headDim), headDim);
  refuse("attention.value_length", m.integer(`${arch}.attention.value_length`, headDim), headDim);
  refuse("expert_weights_scale", m.number(`${arch}.expert_weights_scale`, 1), 1);
  refuse("expert_gating_func", m.integer(`${arch}.expert_gating_func`, 1), 1); // softmax
  refuse("expert_group_count", m.integer(`${arch}.expert_group_count`, 1), 1);
}

/** The config of a GGUF model. Throws ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming file and key. */
export function readGgufConfig({ metadata: m, tensors }: Gguf): KnownModel & { interleaved: boolean } {
  const arch = m.string("general.architecture");
  const sparse = m.integer(`${arch}.expert_count`, 0) > 0;
  const known = architectures.find((a) => a.arch === arch && a.sparse === sparse);
  check(
    known !== undefined,
    "ERR_SWITCHYARD_UNSUPPORTED",
    () => `${m.source}: metadata "general.architecture": unknown architecture ${JSON.stringify(arch)} ${sparse ? "with" : "without"} experts; known are ${describeArchitectures()}`,
  );
  const hf: JsonObject = { model_type: known.modelType };
  for (const [key, field, need] of integers) {
    const name = `${arch}.${key}`;
    if (need === "always" || (need === "sparse" && sparse) || m.has(name)) hf[field] = m.integer(name);
  }
  for (const [key, field] of floats) if (m.has(`${arch}.${key}`)) hf[field] = shortest(m.number(`${arch}.${key}`));
  const embedding = tensors.get("token_embd.weight");
  check(embedding !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${m.source}: tensor "token_embd.weight" is missing`);
  hf["vocab_size"] = embedding.shape[0] ?? 0;
  hf["tie_word_embeddings"] = !tensors.has("output.weight");
  const hasBias = tensors.has("blk.0.attn_q.bias");
  hf["attention_bias"] = hasBias;
  hf["qkv_bias"] = hasBias;
  if (sparse) {
    hf["num_local_experts"] = hf["num_experts"] as number;
    hf["norm_topk_prob"] = m.boolean(`${arch}.expert_weights_norm`, known.normalised ?? true);
    // No key says which layers are dense: those with the tensors of a dense one.
    hf["mlp_only_layers"] = [...tensors.keys()].flatMap((name) => {
      const [, layer] = /^blk\.(\d{1,4})\.ffn_gate\.weight$/.exec(name) ?? [];
      return layer === undefined ? [] : [Number(layer)];
    });
  }
  const { config, family } = readHfConfig(hf, m.source);
  checkUnused(m, arch, config.headDim);
  return { config, family, interleaved: known.interleaved };
}

const describeArchitectures = (): string => architectures.map(({ arch, sparse }) => `${arch} ${sparse ? "with" : "without"} experts`).join(", ");

/** The shortest decimal that is this f32: a file's 1e-6 is 9.99999997e-7, config.json's is not. */
function shortest(x: number): number {
  for (let digits = 1; digits < 10; digits++) {
    const candidate = Number(x.toPrecision(digits));
    if (Math.fround(candidate) === Math.fround(x)) return candidate;
  }
  return x;
}

/** What no key or tensor below would hold. */
function unwritten({ ropes, mixers, ffnBias, clipQkv }: ModelConfig): string[] {
  const features: [string, boolean][] = [
    ["rotary scaling", ropes.some(({ scaling }) => scaling !== undefined)],
    ["a sliding window", mixers.some((mixer) => mixer.kind === "attention" && mixer.window !== undefined)],
    ["biases in feed-forward layers", ffnBias === true],
    ["limited queries, keys and values", clipQkv !== undefined],
  ];
  return features.filter(([, has]) => has).map(([name]) => name);
}

/** Metadata of a model, without the file's type. Throws ERR_SWITCHYARD_UNSUPPORTED for a config that no architecture of GGUF expresses. */
export function writeGgufConfig(config: ModelConfig): { metadata: Map<string, GgufValue>; interleaved: boolean } {
  const { json: hf, family } = writeHfConfig(config);
  const known = architectures.find(({ modelType }) => modelType === family.modelType);
  if (known === undefined) {
    throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `write GGUF: no architecture of GGUF expresses this model (${family.modelType}); those that can are ${describeArchitectures()}`);
  }
  for (const feature of unwritten(config)) throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `write GGUF: a ${family.modelType} model with ${feature} cannot be written yet`);
  const { arch, sparse, interleaved, normalised } = known;
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: arch }],
    ["general.type", { type: "string", value: "model" }],
  ]);
  const put = (key: string, type: "u32" | "f32" | "bool", value: unknown) => {
    if (typeof value === "number" || typeof value === "boolean") metadata.set(`${arch}.${key}`, { type, value });
  };
  for (const [key, field] of integers) put(key, "u32", hf[field] ?? (sparse && field === "num_experts" ? hf["num_local_experts"] : undefined));
  for (const [key, field] of floats) put(key, "f32", hf[field]);
  put("vocab_size", "u32", config.vocab);
  put("attention.value_length", "u32", config.headDim);
  put("rope.dimension_count", "u32", config.headDim);
  if (normalised !== undefined) put("expert_weights_norm", "bool", hf["norm_topk_prob"]);
  return { metadata, interleaved };
}
