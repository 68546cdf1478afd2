import { check, SwitchyardError } from "../../errors.js";
import { GgufMetadata, type GgufValue } from "../../formats/gguf/metadata.js";
import { type JsonObject, withFloats } from "../../formats/json.js";
import { checkModelConfig, type ModelConfig } from "../config.js";
import { parameterSpecs } from "../parameter-specs.js";
import type { GgufArchitecture, GgufFields, GgufKeys } from "./gguf-architecture.js";
import { ggufArchitectures } from "./gguf-architectures.js";
import { ggufPieces } from "./gguf-names.js";
import { ggufKeys, shortest } from "./gguf-keys.js";
import { maxLayers } from "./fields.js";
import { computesSame, floatFields, type KnownModel, readHfConfig, writeHfConfig } from "./hf-config.js";

/** What a config is read from: keys, and which tensors of which shapes there are. */
interface GgufModel {
  metadata: GgufMetadata;
  tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>;
  /** Elements of the tensor "rope_freqs.weight", the factors that frequencies are divided by; undefined if there is none. */
  ropeFactors(): readonly number[] | undefined;
}

interface KnownGguf extends KnownModel {
  architecture: GgufArchitecture;
}

/** The config of a GGUF model. Throws ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming file and key. */
export function readGgufConfig(model: GgufModel): KnownGguf {
  const { metadata: m } = model;
  const arch = m.string("general.architecture");
  const named = ggufArchitectures.filter((a) => a.arch === arch);
  check(named.length > 0, "ERR_SWITCHYARD_UNSUPPORTED", () => `${m.source}: metadata "general.architecture": unknown architecture ${JSON.stringify(arch)}; known are ${known()}`);
  const architecture = named.find((a) => a.matches?.(fieldsOf(model, a)) ?? true) ?? (named[0] as GgufArchitecture);
  const { config, family } = configOf(model, architecture);
  checkKeys(m, architecture, config);
  return { config, family, architecture };
}

const known = (): string => [...new Set(ggufArchitectures.map(({ arch }) => arch))].join(", ");

function configOf(model: GgufModel, architecture: GgufArchitecture): KnownModel {
  const fields = fieldsOf(model, architecture);
  const { config: read, family } = readHfConfig({ ...fields.common, ...architecture.fields?.(fields), model_type: architecture.modelType }, model.metadata.source);
  const config = { ...read, published: withFloats({ architectures: [family.architecture], ...read.published }, floatFields) };
  const factors = model.ropeFactors();
  if (factors === undefined) return { config, family };
  const ropes = config.ropes.map((rope) => ({ ...rope, scaling: { factors, magnitude: 1 } }));
  return { config: checkModelConfig({ ...config, ropes }), family };
}

/** The keys of a file as its architecture names them, and those that all share as fields of config.json, under each of their published names. */
function fieldsOf({ metadata: m, tensors }: GgufModel, { arch, normalised = true, isSliding, onlyExperts }: GgufArchitecture): GgufFields {
  const key = (name: string) => `${arch}.${name}`;
  const integer = (name: string, fallback?: number) => m.integer(key(name), fallback);
  const number = (name: string, fallback?: number) => shortest(m.number(key(name), fallback));
  const has = (name: string) => m.has(key(name));
  // Layers that predict further tokens stand behind the others.
  const layers = integer("block_count") - integer("nextn_predict_layers", 0);
  check(layers <= maxLayers, "ERR_SWITCHYARD_FORMAT", () => `${m.source}: metadata "${key("block_count")}": expected at most ${maxLayers} layers, got ${layers}`);
  const list = (name: string) => m.array(key(name), layers);
  const layersWith = (name: string) => [...tensors.keys()].flatMap((tensor) => (tensor.startsWith("blk.") && tensor.endsWith(`.${name}`) ? [Number(tensor.slice(4, -name.length - 1))] : [])).filter((l) => l < layers).sort((a, b) => a - b);
  const hasTensor = (name: string) => tensors.has(name) || layersWith(name).length > 0;

  const embedding = tensors.get("token_embd.weight");
  check(embedding !== undefined, "ERR_SWITCHYARD_FORMAT", () => `${m.source}: tensor "token_embd.weight" is missing`);
  const experts = integer("expert_count", 0);
  const hidden = integer("feed_forward_length", integer("expert_feed_forward_length", 0));
  const expertHidden = integer("expert_feed_forward_length", hidden);
  const heads = integer("attention.head_count");
  // No key says which layers are dense: those with the tensors of a dense one.
  const dense = new Set(layersWith("ffn_gate.weight"));
  const sharedWidth = [...tensors].find(([name]) => name.endsWith(".ffn_up_shexp.weight"))?.[1].shape.at(-2) ?? 0;
  const keyHeads = list("attention.head_count_kv");
  const windowed = integer("attention.sliding_window", 0);
  const hasBias = hasTensor("attn_q.bias");
  const common: JsonObject = {
    vocab_size: embedding.shape[0] ?? 0,
    hidden_size: integer("embedding_length"),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: keyHeads === undefined ? integer("attention.head_count_kv", heads) : (keyHeads.find((n) => n > 0) ?? heads),
    head_dim: integer("attention.key_length", Math.floor(integer("embedding_length") / heads)),
    max_position_embeddings: integer("context_length"),
    ...(has("attention.layer_norm_rms_epsilon") ? { rms_norm_eps: number("attention.layer_norm_rms_epsilon") } : {}),
    rope_theta: number("rope.freq_base", 10_000),
    rope_parameters: ropeParameters(integer, number, m.string(key("rope.scaling.type"), "none"), number("rope.freq_base", 10_000)),
    tie_word_embeddings: !tensors.has("output.weight"),
    attention_bias: hasBias,
    qkv_bias: hasBias,
    intermediate_size: onlyExperts ? expertHidden : hidden,
    moe_intermediate_size: expertHidden,
    sliding_window: windowed === 0 ? null : windowed,
    ...(has("attention.clamp_kqv") ? { clip_qkv: number("attention.clamp_kqv") } : {}),
  };
  if (windowed > 0 && isSliding !== undefined) common["layer_types"] = slidingTypes(list("attention.sliding_window_pattern"), layers, isSliding);
  const fields = { metadata: m, integer, number, list, has, hasTensor, layersWith, common };
  if (experts === 0) return fields;
  const active = integer("expert_used_count");
  const groups = integer("expert_group_count", 1);
  Object.assign(common, {
    num_experts: experts,
    num_local_experts: experts,
    n_routed_experts: experts,
    moe_num_experts: experts,
    num_experts_per_tok: active,
    moe_k: active,
    moe_topk: active,
    norm_topk_prob: m.boolean(key("expert_weights_norm"), normalised),
    routed_scaling_factor: number("expert_weights_scale", 1) || 1, // 0 is llama.cpp's "not given"
    router_scaling_factor: number("expert_weights_scale", 1) || 1,
    ...(groups > 1 ? { n_group: groups, topk_group: integer("expert_group_used_count") } : { n_group: 1, topk_group: 1 }),
    ...Object.fromEntries(["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"].map((field) => [field, Math.floor(sharedWidth / Math.max(1, expertHidden))])),
    shared_intermediate_size: sharedWidth,
    shared_expert_intermediate_size: sharedWidth,
    first_k_dense_replace: dense.size,
    mlp_only_layers: [...dense],
    mlp_layer_types: Array.from({ length: layers }, (_, l) => (dense.has(l) ? "dense" : "sparse")),
    decoder_sparse_step: 1,
  });
  return fields;
}

/** Which layers have the window: as the file lists them, or as is usual for the architecture. */
function slidingTypes(list: readonly number[] | undefined, layers: number, isSliding: (l: number) => boolean): string[] {
  return Array.from({ length: layers }, (_, l) => ((list === undefined ? isSliding(l) : list[l] === 1) ? "sliding_attention" : "full_attention"));
}

type Numbers = (key: string, fallback?: number) => number;

function ropeParameters(integer: Numbers, number: Numbers, type: string, theta: number): JsonObject {
  if (type === "none") return { rope_theta: theta, rope_type: "default" };
  if (type === "linear") return { rope_theta: theta, rope_type: type, factor: number("rope.scaling.factor") };
  if (type !== "yarn") return { rope_theta: theta, rope_type: type };
  // DeepSeek's two factors of the attention's sharpness, which are equal in all published models.
  const sharpness = shortest(10 * number("rope.scaling.yarn_log_multiplier", 0));
  return {
    rope_theta: theta,
    rope_type: type,
    factor: number("rope.scaling.factor"),
    original_max_position_embeddings: integer("rope.scaling.original_context_length"),
    beta_fast: number("rope.scaling.yarn_beta_fast", 32),
    beta_slow: number("rope.scaling.yarn_beta_slow", 1),
    ...(sharpness > 0 ? { mscale: sharpness, mscale_all_dim: sharpness } : {}),
  };
}

/** Keys that change what is computed, with the value that says nothing. */
const meaningful: Readonly<Record<string, number | string>> = {
  "rope.scaling.type": "none", "rope.scaling.attn_factor": 1, "rope.dimension_count": 0, "attention.sliding_window": 0, "attention.clamp_kqv": 0, "attention.scale": 0,
  "attention.max_alibi_bias": 0, "attention.temperature_scale": 0, attn_logit_softcapping: 0, final_logit_softcapping: 0, router_logit_softcapping: 0, logit_scale: 1,
  residual_scale: 1, embedding_scale: 1, expert_weights_scale: 1, expert_gating_func: 1, expert_group_count: 1, expert_group_used_count: 1, expert_group_scale: 0,
  swiglu_clamp_exp: 0,
};

/** A key that changes what is computed must say what we compute: anything else would be another function than ours. */
function checkKeys(m: GgufMetadata, { arch, normalised, keys }: GgufArchitecture, config: ModelConfig): void {
  const ours = { ...ggufKeys(config, undefined, normalised !== undefined), ...keys?.(config) };
  for (const [key, nothing] of Object.entries(meaningful)) {
    const entry = m.entries.get(`${arch}.${key}`);
    if (entry === undefined || entry.value === nothing || entry.value === 0) continue;
    const expected = ours[key] ?? nothing;
    const same = typeof expected === "number" ? Math.fround(Number(entry.value)) === Math.fround(expected) : entry.value === expected || key === "rope.scaling.type";
    check(same, "ERR_SWITCHYARD_UNSUPPORTED", () => `${m.source}: metadata "${arch}.${key}": ${JSON.stringify(entry.value)} is not supported in this model, only ${JSON.stringify(expected)}`);
  }
}

/** What stands in a GGUF file beside the weights. */
interface GgufDescription {
  architecture: GgufArchitecture;
  metadata: Map<string, GgufValue>;
  /** For the tensor "rope_freqs.weight". */
  ropeFactors?: readonly number[] | undefined;
}

/** Keys of a model, without the file's type. Throws ERR_SWITCHYARD_UNSUPPORTED for a config that no architecture of GGUF expresses. */
export function writeGgufConfig(config: ModelConfig): GgufDescription {
  const { json, family } = writeHfConfig(config);
  const architecture = ggufArchitectures.find(({ modelType, also = [], loads }) => [modelType, ...also].includes(family.modelType) && loads?.(config) !== false);
  const fail = (what: string): never => {
    throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `write GGUF: ${what}; the architectures that can be written are ${known()}`);
  };
  if (architecture === undefined) return fail(`no architecture of GGUF expresses this model (${family.modelType})`);
  const { arch, isSliding, normalised, onlyExperts, keys } = architecture;
  const all: GgufKeys = { ...ggufKeys(config, json, normalised !== undefined, isSliding), ...(onlyExperts ? { feed_forward_length: config.moe?.hidden } : {}), ...keys?.(config) };
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: arch }],
    ["general.type", { type: "string", value: "model" }],
  ]);
  for (const [key, value] of Object.entries(all)) if (value !== undefined) metadata.set(`${arch}.${key}`, typed(key, value));
  // Llama 3 stretches each frequency by a factor of its own.
  const scaling = config.ropes.length === 1 && !all["rope.scaling.type"] ? config.ropes[0]?.scaling : undefined;
  const ropeFactors = scaling?.magnitude === 1 ? scaling.factors : undefined;
  const tensors = new Map(parameterSpecs(config).flatMap((spec) => ggufPieces(spec, config, architecture)).map((piece) => [piece.name, piece]));
  if (!saysSame({ metadata: new GgufMetadata(metadata, "write GGUF"), tensors, ropeFactors: () => ropeFactors }, config)) return fail(`its keys cannot express this ${family.modelType} model`);
  return { architecture, metadata, ropeFactors };
}

/** Whether a file of these keys and tensors is read as `config`. */
function saysSame(file: Parameters<typeof readGgufConfig>[0], config: ModelConfig): boolean {
  try {
    return computesSame(readGgufConfig(file).config, config);
  } catch (error) {
    if (error instanceof SwitchyardError) return false; // it cannot even state it, as a mixture of no sparse layer
    throw error;
  }
}

/** Keys whose numbers are floats, even where one is whole. */
const floats = /epsilon|freq_base|clamp|scale|factor|multiplier|beta|jitter/;

function typed(key: string, value: NonNullable<GgufKeys[string]>): GgufValue {
  if (typeof value === "string") return { type: "string", value };
  if (typeof value === "boolean") return { type: "bool", value };
  if (typeof value === "number") return { type: floats.test(key) ? "f32" : "u32", value };
  return typeof value[0] === "boolean" ? { type: "array", of: "bool", value: Uint8Array.from(value, Number) } : { type: "array", of: "i32", value: Int32Array.from(value, Number) };
}
