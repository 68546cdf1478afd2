import type { GgufType } from "../formats/gguf/types.js";
import type { ParameterSpec } from "../model/parameter-specs.js";
import type { WrittenTensor } from "../model/published.js";

/** What a model's tensors are stored in, group by group. */
export interface Quantities {
  parameters: number;
  bitsPerWeight: number;
  groups: TensorGroup[];
  /** Tensors whose rows are no whole blocks of the type that they were to have. */
  fallbacks: { tensor: string; wanted: GgufType; type: GgufType }[];
}

interface TensorGroup {
  group: string;
  /** Tensors by type. */
  types: Partial<Record<GgufType, number>>;
  parameters: number;
  bytes: number;
  bitsPerWeight: number;
}

/** Sums up what was written. */
export function quantities(tensors: readonly WrittenTensor[]): Quantities {
  const byGroup = new Map<string, Omit<TensorGroup, "bitsPerWeight">>();
  for (const tensor of tensors) {
    const name = groupOf(tensor);
    let group = byGroup.get(name);
    if (group === undefined) byGroup.set(name, (group = { group: name, types: {}, parameters: 0, bytes: 0 }));
    group.types[tensor.type] = (group.types[tensor.type] ?? 0) + 1;
    group.parameters += tensor.elements;
    group.bytes += tensor.bytes;
  }
  const groups = [...byGroup.values()].map((group) => ({ ...group, bitsPerWeight: (8 * group.bytes) / group.parameters }));
  const sum = (of: (group: TensorGroup) => number) => groups.reduce((total, group) => total + of(group), 0);
  const parameters = sum((group) => group.parameters);
  return {
    parameters,
    bitsPerWeight: (8 * sum((group) => group.bytes)) / parameters,
    groups,
    fallbacks: tensors.filter(({ type, wanted, parameter }) => type !== wanted && parameter.group !== "router" && isMatrix(parameter)).map(({ name, wanted, type }) => ({ tensor: name, wanted, type })),
  };
}

/** The biases of experts are vectors, one for each. */
const isMatrix = ({ name, shape }: ParameterSpec): boolean => shape.length > 1 && !name.endsWith("Bias");

/** "experts.up" of "layers.3.experts.up" and of "decoder.layers.3.experts.up"; vectors are one group. */
function groupOf({ parameter }: WrittenTensor): string {
  const { name } = parameter;
  if (!isMatrix(parameter)) return "vectors";
  const ours = name.replace(/^((encoder|decoder)\.)?(layers\.\d+\.)?/, "");
  return /^(experts|shared|ffn)\./.test(ours) ? ours.replace(/Norm$/, "") : (ours.split(".")[0] as string);
}
