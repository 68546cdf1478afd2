import { ggufBytes, type GgufType, ggufTypes } from "../formats/gguf/types.js";
import type { AnyConfig } from "./encoder-decoder/config.js";
import type { Piece } from "./families/names.js";
import type { ParameterSpec } from "./parameter-specs.js";

/** The types that a model can be written in: those that products read in place. */
export const fileTypes = [
  "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "MXFP4", "Q3_K", "Q2_K",
] as const satisfies readonly GgufType[];

export type FileType = (typeof fileTypes)[number];

/** What takes the place of a type with blocks of 256 in rows that are no multiple of it: the smallest with blocks of 32 whose error is no larger. */
const narrower: Readonly<Partial<Record<GgufType, FileType>>> = { Q2_K: "IQ4_NL", Q3_K: "IQ4_NL", IQ4_XS: "IQ4_NL", Q4_K: "Q4_1", Q5_K: "Q5_1", Q6_K: "Q8_0" };

/**
 * The type of a tensor in a file of mostly `type`. Vectors, biases, routers and rows shorter than any block stay F32, whatever the type: they are small,
 * and a rounded router sends tokens elsewhere. A matrix whose rows are not whole blocks gets a type with smaller ones, or F32: before products with F16
 * llama.cpp rounds activations.
 */
export function storedType(type: GgufType, { name, shape }: Pick<Piece, "name" | "shape">, { group }: Pick<ParameterSpec, "group">): GgufType {
  if (shape.length === 1 || (shape.at(-1) as number) < 32 || group === "router" || name.endsWith(".bias")) return "F32";
  if (ggufBytes(type, shape) !== undefined) return type;
  const other = narrower[type];
  return other !== undefined && ggufBytes(other, shape) !== undefined ? other : "F32";
}

/**
 * The type that a parameter gets in a file of mostly `type`. Every token is compared to the output table: 6.6 bits or more are well spent there. The gate of
 * a shared expert is a router with one or two rows, an indexer's weights are one of keys; Mamba's rates are exponents, which llama.cpp has in F32 only; tables of
 * decays are powers of such rates, and a table of position biases is read for every pair of tokens.
 */
export function parameterType(type: FileType, name: string, { tiedEmbeddings }: Pick<AnyConfig, "tiedEmbeddings">): FileType {
  if (/\.(shared\.gate|indexWeights|mamba\.logRate|lightning\.(ofQuery|ofKey|within)|positions)$/.test(name)) return "F32";
  const isOutput = name === (tiedEmbeddings ? "embedding" : "head");
  return isOutput && bitsPerWeight(type) < bitsPerWeight("Q6_K") ? "Q6_K" : type;
}

/** Tensors that get another type than most, by their published names. */
export interface TensorType {
  tensors: RegExp;
  type: FileType;
}

const bitsPerWeight = (type: GgufType): number => (8 * ggufTypes[type].bytes) / ggufTypes[type].elements;
