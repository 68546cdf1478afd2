import { check } from "../../errors.js";
import { isJsonObject, type Json } from "../../formats/json.js";

/** Rows and columns of the blocks of an FP8 checkpoint's weights, each with one scale in "NAME_scale_inv". */
export type Fp8Block = readonly [rows: number, cols: number];

/**
 * The quantisation that a config.json declares, or undefined where there is none. Throws ERR_SWITCHYARD_UNSUPPORTED naming the method
 * for any but FP8 in blocks, as DeepSeek and Qwen publish it.
 */
export function readQuantization(json: Json, file: string): Fp8Block | undefined {
  const quantization = isJsonObject(json) ? (json["quantization_config"] ?? undefined) : undefined;
  if (quantization === undefined) return undefined;
  const fields = isJsonObject(quantization) ? quantization : {};
  const { quant_method: method, weight_block_size: block } = fields;
  const isBlock = Array.isArray(block) && block.length === 2 && block.every((n) => Number.isInteger(n) && (n as number) > 0);
  check(
    method === "fp8" && isBlock,
    "ERR_SWITCHYARD_UNSUPPORTED",
    () => `${file}: quantization_config: expected quant_method "fp8" with a weight_block_size of two integers, got ${JSON.stringify(method)} with ${JSON.stringify(block)}; use the unquantised checkpoint`,
  );
  return block as unknown as Fp8Block;
}
