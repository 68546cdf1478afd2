import type { Engine } from "../../engine/engine.js";
import { check } from "../../errors.js";
import { byteLength } from "../../tensor/dtype.js";
import type { ModelConfig } from "../config.js";
import { looseParts, type ParameterSource, type StoredMatrix, storedParts } from "../mapped.js";
import type { ParameterSpec } from "../parameter-specs.js";
import { slotBytes } from "./slots.js";

/** The experts of one sparse layer in files: each part of `up` (gate and up, or both in one) and `down` is a matrix per expert. */
export interface StoredExperts {
  layer: number;
  up: readonly (readonly StoredMatrix[])[];
  down: readonly StoredMatrix[];
}

/** Names of a layer's experts among the parameters. */
const names = (layer: number): [up: string, down: string] => [`layers.${layer}.experts.up`, `layers.${layer}.experts.down`];

/** Names of the parameters that these experts make up, and how many bytes each has in files. */
export function cachedBytes(layers: readonly StoredExperts[]): Map<string, number> {
  const bytes = (matrices: readonly StoredMatrix[]) => matrices.reduce((sum, { dtype, rows, cols }) => sum + byteLength(dtype, rows * cols), 0);
  return new Map(layers.flatMap(({ layer, up, down }) => [[names(layer)[0], bytes(up.flat())], [names(layer)[1], bytes(down)]]));
}

/**
 * Where the experts of every sparse layer stand in files. Throws ERR_SWITCHYARD_USAGE for a model without experts or an engine that does not
 * read matrices in place, ERR_SWITCHYARD_UNSUPPORTED for files in which they are not whole, or in a type that products do not read.
 */
export function storedExperts(engine: Engine, config: ModelConfig, specs: ReadonlyMap<string, ParameterSpec>, sources: ReadonlyMap<string, ParameterSource> | undefined): StoredExperts[] {
  check(engine.name === "native", "ERR_SWITCHYARD_USAGE", () => "memory: a budget needs the native engine: build it with: npx switchyard build-engine");
  check(config.moe !== undefined && config.sparseLayers.length > 0, "ERR_SWITCHYARD_USAGE", () => "memory: a budget is for experts, and this model has none; load it without one");
  return config.sparseLayers.map((layer) => {
    const [up, down] = names(layer).map((name) => {
      const { shape } = specs.get(name) as ParameterSpec;
      const { rows, repacked, types = [] } = sources?.get(name) ?? {};
      const parts = (rows && storedParts(shape, rows)) ?? (repacked && looseParts(shape, repacked));
      check(
        parts !== undefined,
        "ERR_SWITCHYARD_UNSUPPORTED",
        () => `memory: the experts of layer ${layer} are ${[...new Set(types)].join(" and ")} in the model's files, which cannot be read one by one as products take them; convert it to GGUF, or load it without a budget`,
      );
      return parts;
    }) as [StoredMatrix[][], StoredMatrix[][]];
    return { layer, up, down: down[0] as StoredMatrix[] };
  });
}

/** Bytes of the largest expert in whole pages. */
export function expertBytes(layers: readonly StoredExperts[]): number {
  return Math.max(...layers.flatMap(({ up, down }) => down.map((matrix, e) => slotBytes([...up.map((part) => part[e] as StoredMatrix), matrix]))));
}
