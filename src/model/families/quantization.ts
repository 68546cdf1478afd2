import { check } from "../../errors.js";
import { isJsonObject, type Json } from "../../formats/json.js";

/**
 * How a checkpoint's weights are quantised: 8-bit floats in blocks of rows and columns, each with one scale, as DeepSeek and Qwen publish
 * them; MXFP4, as gpt-oss; or our own tensors of blocks (`model/packed.ts`).
 */
export type Quantization = { method: "fp8"; block: readonly [rows: number, cols: number] } | { method: "mxfp4" | "switchyard" };

/** The quantisation that a config.json declares, or undefined where there is none. Throws ERR_SWITCHYARD_UNSUPPORTED naming any other method. */
export function readQuantization(json: Json, file: string): Quantization | undefined {
  const quantization = isJsonObject(json) ? (json["quantization_config"] ?? undefined) : undefined;
  if (quantization === undefined) return undefined;
  const fields = isJsonObject(quantization) ? quantization : {};
  const { quant_method: method, weight_block_size: block } = fields;
  if (method === "mxfp4" || method === "switchyard") return { method };
  const isBlock = Array.isArray(block) && block.length === 2 && block.every((n) => Number.isInteger(n) && (n as number) > 0);
  check(
    method === "fp8" && isBlock,
    "ERR_SWITCHYARD_UNSUPPORTED",
    () => `${file}: quantization_config: expected quant_method "mxfp4", "switchyard", or "fp8" with a weight_block_size of two integers, got ${JSON.stringify(method)} with ${JSON.stringify(block)}; use the unquantised checkpoint`,
  );
  return { method: "fp8", block: block as unknown as readonly [number, number] };
}
