import type { Json, JsonObject } from "../../formats/json.js";
import { type AnyConfig, isEncoderDecoder } from "../encoder-decoder/config.js";
import { type ParameterSpec, parameterSpecs } from "../parameter-specs.js";
import type { Architecture } from "./family.js";
import { readHfConfig, writeHfConfig } from "./hf-config.js";
import { type Piece, publishedPieces, sharedTableName, type TensorNames } from "./names.js";
import { isSwitchConfig, readSwitchConfig, switchFamily, switchPieces, writeSwitchConfig } from "./switch.js";

/** What a family is called. */
export type FamilyName = Pick<Architecture, "modelType" | "architecture">;

/** What a model of either kind is published as. */
export interface Publication {
  family: FamilyName;
  /** The tensors that hold a parameter. */
  pieces(spec: ParameterSpec): Piece[];
}

/** The tensors of a checkpoint. */
export interface Stored {
  has(name: string): boolean;
  /** Of a small tensor; undefined if there is none of that name. */
  elements(name: string): Float32Array | undefined;
}

/** What a config.json and its tensors are. Throws ERR_SWITCHYARD_FORMAT, ERR_SWITCHYARD_UNSUPPORTED or ERR_SWITCHYARD_CONFIG naming the field. */
export function readPublication(json: Json, source: string, stored: Stored): Publication & { config: AnyConfig } {
  if (isSwitchConfig(json)) return { config: readSwitchConfig(json, source), family: switchFamily, pieces: (spec) => switchPieces(spec, stored) };
  const { config: stated, family } = readHfConfig(json, source);
  const config = family.refine?.(stated, (name) => stored.elements(name)) ?? stated;
  const specs = parameterSpecs(config);
  const isThere = (names: TensorNames) => specs.every((spec) => publishedPieces(spec, config, names).every(({ name }) => stored.has(name)));
  const names = family.otherNames?.find(isThere) ?? family.names;
  const nameOf = (name: string) => (config.tiedEmbeddings ? sharedTableName(name, names, stored) : name);
  return { config, family, pieces: (spec) => publishedPieces(spec, config, names).map((piece) => ({ ...piece, name: nameOf(piece.name) })) };
}

/** What a model is published as, and its config.json, whose numbers are spelled as in `origin`. */
export function writePublication(config: AnyConfig): Publication & { json: JsonObject; origin: JsonObject | undefined } {
  if (isEncoderDecoder(config)) return { json: writeSwitchConfig(config), origin: undefined, family: switchFamily, pieces: (spec) => switchPieces(spec) };
  const { json, family } = writeHfConfig(config);
  return { json, origin: config.published ?? json, family, pieces: (spec) => publishedPieces(spec, config, family.names) };
}
