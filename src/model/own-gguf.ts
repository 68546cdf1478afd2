import type { GgufValue } from "../formats/gguf/metadata.js";
import type { Gguf } from "../formats/gguf/open.js";
import { parseJson, stringifyJson } from "../formats/json.js";
import type { ModelConfig } from "./config.js";
import type { Architecture } from "./families/family.js";
import { readHfConfig, writeHfConfig } from "./families/hf-config.js";
import { type Piece, publishedPieces } from "./families/names.js";
import { packedShape } from "./packed.js";
import type { ParameterSpec } from "./parameter-specs.js";
import { decodeTensor } from "./stored.js";

/**
 * A description of our own, for models that no architecture of GGUF expresses: `general.architecture` is "switchyard", which other programs refuse
 * by name, `switchyard.config` is config.json, and tensors have the checkpoint's names, their matrices [out, in].
 */
export const ownArchitecture = "switchyard";
const configKey = "switchyard.config";

/** What a GGUF file says of its model, whatever the description. */
export interface DescribedGguf {
  config: ModelConfig;
  family: Architecture;
  /** The tensors that hold a parameter. */
  pieces(spec: ParameterSpec): Piece[];
}

const ownPieces = (spec: ParameterSpec, config: ModelConfig, { names }: Architecture): Piece[] =>
  publishedPieces(spec, config, names).map((piece) => ({ ...piece, shape: packedShape(piece), transposed: false }));

/** Throws as `readHfConfig`. */
export function readOwnGguf({ metadata, tensors }: Gguf): DescribedGguf {
  const source = `${metadata.source}: metadata "${configKey}"`;
  const { config: stated, family } = readHfConfig(parseJson(Buffer.from(metadata.string(configKey)), source), source);
  const elements = (name: string): Float32Array | undefined => {
    const tensor = tensors.get(name);
    const [first] = tensor === undefined ? [] : decodeTensor(tensor);
    return first;
  };
  const config = family.refine?.(stated, elements) ?? stated;
  return { config, family, pieces: (spec) => ownPieces(spec, config, family) };
}

export function writeOwnGguf(config: ModelConfig): { metadata: Map<string, GgufValue>; pieces(spec: ParameterSpec): Piece[] } {
  const { json, family } = writeHfConfig(config);
  const text = { "general.architecture": ownArchitecture, "general.type": "model", [configKey]: stringifyJson(json, config.published) };
  return { metadata: new Map(Object.entries(text).map(([key, value]) => [key, { type: "string", value }])), pieces: (spec) => ownPieces(spec, config, family) };
}
