import type { GgufValue } from "../formats/gguf/metadata.js";
import type { Gguf } from "../formats/gguf/open.js";
import { parseJson, stringifyJson } from "../formats/json.js";
import type { AnyConfig } from "./encoder-decoder/config.js";
import type { Piece } from "./families/names.js";
import { type Publication, readPublication, writePublication } from "./families/publication.js";
import { packedShape } from "./packed.js";
import type { ParameterSpec } from "./parameter-specs.js";
import { decodeTensor, joined } from "./stored.js";

/**
 * A description of our own, for models that no architecture of GGUF expresses: `general.architecture` is "switchyard", which other programs refuse
 * by name, `switchyard.config` is config.json, and tensors have the checkpoint's names, their matrices [out, in].
 */
export const ownArchitecture = "switchyard";
const configKey = "switchyard.config";

const ownPieces = (piecesOf: Publication["pieces"]) => (spec: ParameterSpec): Piece[] => piecesOf(spec).map((piece) => ({ ...piece, shape: packedShape(piece), transposed: false }));

/** Throws as `readPublication`. */
export function readOwnGguf({ metadata, tensors }: Gguf): Publication & { config: AnyConfig } {
  const source = `${metadata.source}: metadata "${configKey}"`;
  const { pieces, ...rest } = readPublication(parseJson(Buffer.from(metadata.string(configKey)), source), source, {
    has: (name) => tensors.has(name),
    elements(name) {
      const tensor = tensors.get(name);
      return tensor && joined(decodeTensor(tensor));
    },
  });
  return { ...rest, pieces: ownPieces(pieces) };
}

export function writeOwnGguf(config: AnyConfig): Pick<Publication, "pieces"> & { metadata: Map<string, GgufValue> } {
  const { json, origin, pieces } = writePublication(config);
  const text = { "general.architecture": ownArchitecture, "general.type": "model", [configKey]: stringifyJson(json, origin) };
  return { metadata: new Map(Object.entries(text).map(([key, value]) => [key, { type: "string", value }])), pieces: ownPieces(pieces) };
}
