import { check, SwitchyardError } from "../../errors.js";
import { frequencies, type RopeConfig, type RopeScaling } from "../rope.js";
import { headDimOf, type HfConfig, type HfRope, refuse } from "./fields.js";

/** What a family's attention does with a rotary embedding. */
export interface RopeUse {
  /** Elements of a head that a factor of 1 rotates; default all. */
  dims?: number;
  /** What becomes of partial_rotary_factor. By default transformers ignores it where there is no scaling, and fails where there is. */
  partial?: "applied" | "refused";
  /** Its value when config.json leaves it out; default 1. */
  fraction?: number;
  /** Element 2i turns with element 2i + 1, not with the one half a head away. */
  interleaved?: boolean;
}

/** `rope_scaling`, the older place, counts before `rope_parameters`. */
function parametersOf(hf: HfConfig): HfRope | Record<string, HfRope | null | undefined> {
  const { rope_scaling: older, rope_parameters: newer } = hf;
  return (older != null && Object.keys(older).length > 0 ? older : newer) ?? {};
}

const isNested = (parameters: object): parameters is Record<string, HfRope | null | undefined> => "full_attention" in parameters || "sliding_attention" in parameters;

/** The rotary parameters of layers of a type; where config.json has one set for all, that. */
export function ropeParameters(hf: HfConfig, layerType = "full_attention"): HfRope {
  const parameters = parametersOf(hf);
  return isNested(parameters) ? (parameters[layerType] ?? {}) : parameters;
}

export const ropeType = ({ rope_type: newer, type: older }: HfRope): string => newer ?? older ?? "default";

/** The rotary embedding of layers of a type. Throws ERR_SWITCHYARD_UNSUPPORTED naming the field. */
export function readRope(hf: HfConfig, use: RopeUse = {}, layerType?: string): RopeConfig {
  const nested = isNested(parametersOf(hf));
  refuse(hf, nested && layerType === undefined, "rope_parameters for each type of layer");
  const p = ropeParameters(hf, layerType);
  const type = ropeType(p);
  const dims = use.dims ?? headDimOf(hf);
  const fraction = p.partial_rotary_factor ?? hf.partial_rotary_factor ?? use.fraction ?? 1;
  const rotary = use.partial === "applied" ? Math.trunc(dims * fraction) : dims;
  refuse(hf, Math.trunc(dims * fraction) !== rotary && (type !== "default" || use.partial === "refused"), `partial_rotary_factor ${fraction}`);
  refuse(hf, rotary > 2 ** 16, `a rotary embedding of ${rotary} elements`);
  const theta = p.rope_theta ?? hf.rope_theta ?? 10_000;
  const base = { theta: type === "dynamic" && p.alpha != null ? theta * p.alpha ** (rotary / (rotary - 2)) : theta, rotary, interleaved: use.interleaved ?? false };
  return { ...base, ...scaling(hf, p, type, base.theta, rotary, nested) };
}

function scaling(hf: HfConfig, p: HfRope, type: string, theta: number, rotary: number, nested: boolean): Pick<RopeConfig, "scaling" | "long"> {
  const need = (key: "factor" | "low_freq_factor" | "high_freq_factor"): number => {
    const value = p[key];
    if (typeof value === "number") return value;
    throw new SwitchyardError("ERR_SWITCHYARD_FORMAT", `config.json: rotary scaling of type "${type}" needs ${key}, got ${value}`);
  };
  const original = (nested ? undefined : hf.original_max_position_embeddings) ?? p.original_max_position_embeddings ?? hf.max_position_embeddings;
  switch (type) {
    case "default":
    case "dynamic": // its base grows with sequences longer than the context, which we do not run
      return {};
    case "linear":
      return { scaling: { factors: new Array<number>(rotary / 2).fill(need("factor")), magnitude: 1 } };
    case "llama3":
      return { scaling: { factors: llama3Factors(theta, rotary, original, need("factor"), need("low_freq_factor"), need("high_freq_factor")), magnitude: 1 } };
    case "yarn":
      return { scaling: yarn(hf, p, theta, rotary, original, nested) };
    case "longrope":
      return longRope(hf, p, rotary, original);
    default:
      throw new SwitchyardError("ERR_SWITCHYARD_UNSUPPORTED", `config.json: rotary scaling of type "${type}" is not supported; known are default, linear, dynamic, llama3, yarn, longrope`);
  }
}

/** Llama 3.1: long wavelengths are stretched, short ones not, those between in between. */
function llama3Factors(theta: number, rotary: number, original: number, factor: number, low: number, high: number): number[] {
  return frequencies(theta, rotary).map((f) => {
    const wavelength = (2 * Math.PI) / f;
    if (wavelength > original / low) return factor;
    if (wavelength < original / high) return 1;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** 0.1 m log(s) + 1: how much YaRN sharpens the attention of a context stretched s times. */
export const yarnMagnitude = (stretch: number, m = 1): number => (stretch <= 1 ? 1 : 0.1 * m * Math.log(stretch) + 1);

/** YaRN (Peng et al. 2023, arXiv 2309.00071): by how often a frequency turns within the original context. */
function yarn(hf: HfConfig, p: HfRope, theta: number, rotary: number, original: number, nested: boolean): RopeScaling {
  const factor = p.factor ?? hf.max_position_embeddings / original;
  const magnitude = p.attention_factor ?? (p.mscale && p.mscale_all_dim ? yarnMagnitude(factor, p.mscale) / yarnMagnitude(factor, p.mscale_all_dim) : yarnMagnitude(factor));
  const pairOf = (turns: number) => (rotary * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  // transformers looks for this switch beside the nested parameters, not in them, so that theirs always round.
  const round = nested || (p.truncate ?? true);
  const [fast, slow] = [pairOf(p.beta_fast || 32), pairOf(p.beta_slow || 1)];
  const low = Math.max(round ? Math.floor(fast) : fast, 0);
  const high = Math.min(round ? Math.ceil(slow) : slow, rotary - 1);
  const width = low === high ? 0.001 : high - low;
  const factors = Array.from({ length: rotary / 2 }, (_, i) => {
    const interpolated = Math.min(1, Math.max(0, (i - low) / width));
    return 1 / (interpolated / factor + 1 - interpolated);
  });
  return { factors, magnitude };
}

/** LongRoPE (Ding et al. 2024, arXiv 2402.13753): one set of factors up to the original context, another beyond. */
function longRope(hf: HfConfig, p: HfRope, rotary: number, original: number): Pick<RopeConfig, "scaling" | "long"> {
  const list = (key: "short_factor" | "long_factor"): number[] => {
    const value = p[key];
    check(value?.length === rotary / 2, "ERR_SWITCHYARD_FORMAT", () => `config.json: ${key}: expected ${rotary / 2} factors, got ${value?.length}`);
    return value as number[];
  };
  const factor = p.factor ?? hf.max_position_embeddings / original;
  const magnitude = p.attention_factor ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
  return { scaling: { factors: list("short_factor"), magnitude }, long: { beyond: original, factors: list("long_factor"), magnitude } };
}
