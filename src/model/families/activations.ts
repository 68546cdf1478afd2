import type { Activation } from "../../engine/engine.js";
import { check } from "../../errors.js";

/** Activations by their published names; the first name of each is the one that is written. */
const published: Readonly<Record<string, Activation>> = {
  relu: "relu", gelu: "gelu", gelu_python: "gelu", gelu_new: "gelu-tanh", gelu_pytorch_tanh: "gelu-tanh", gelu_python_tanh: "gelu-tanh", gelu_fast: "gelu-tanh",
  gelu_accurate: "gelu-tanh", silu: "silu", swish: "silu", quick_gelu: "quick-gelu", relu2: "relu2",
};

/** Throws ERR_SWITCHYARD_UNSUPPORTED naming `field` of a config.json for an activation that is not known. */
export function readActivation(name: string, field: string): Activation {
  const activation = Object.hasOwn(published, name) ? published[name] : undefined;
  check(activation !== undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `${field} "${name}" is not supported; known are ${Object.keys(published).join(", ")}`);
  return activation;
}

export const publishedActivation = (activation: Activation): string => Object.keys(published).find((name) => published[name] === activation) as string;
