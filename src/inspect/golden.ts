import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { check, checker } from "../errors.js";
import { readChunks } from "../formats/chunks.js";
import { bf16ToF32, f16ToF32 } from "../tensor/half.js";
import { conform, readJsonFile } from "../formats/json.js";
import { readSafetensorsHeader, type SafetensorsDtype, type StoredTensor } from "../formats/safetensors.js";
import { type Inputs, type LayerName, layerPrefix } from "./subject.js";

/** A stored tensor of any float or integer type, as numbers. */
interface GoldenTensor {
  shape: readonly number[];
  values: Float64Array;
}

/** What a golden knows of one sparse layer: any of these, of T tokens with E experts, k of them chosen. */
export interface GoldenLayer {
  layer: LayerName;
  /** [T, E]: the router's projection, before bias and score function. */
  router_logits?: GoldenTensor;
  /** [T, k]; -1: a choice that was dropped. */
  experts?: GoldenTensor;
  /** [T, k] */
  weights?: GoldenTensor;
  /** [T]: not 0 where the token was dropped, so that its expert means nothing. */
  dropped?: GoldenTensor;
  /** [T, D]: what the whole sparse block was given, and what it gave, shared experts included. */
  moe_input?: GoldenTensor;
  moe_output?: GoldenTensor;
}

/** What a reference implementation computed from a checkpoint (docs/guide/verify.md). */
export interface Golden extends Inputs {
  source: string;
  /** [B, T, V]; of an encoder-decoder, for the decoder's tokens. */
  logits?: GoldenTensor | undefined;
  layers: readonly GoldenLayer[];
  /** The most likely token, again and again. */
  greedy?: { prompt: readonly number[]; ids: readonly number[] } | undefined;
  /** What the reference itself loses in float32, relative to its largest logit. */
  f32Error?: number | undefined;
}

const layerTensors = ["router_logits", "experts", "weights", "dropped", "moe_input", "moe_output"] as const;
type LayerTensor = (typeof layerTensors)[number];

const row = z.array(z.number().int().min(0).max(2 ** 31)).min(1);
const schema = z.object({
  input_ids: z.union([z.array(row).min(1), row]),
  decoder_input_ids: z.array(row).min(1).optional(),
  greedy_prompt_ids: row.optional(),
  greedy_ids: row.optional(),
  f32_logit_error: z.number().min(0).optional(),
});

/**
 * Reads golden.json and golden.safetensors of a folder, or NAME.json and the NAME.safetensors beside it. Throws
 * ERR_SWITCHYARD_CHECKPOINT if they are missing, ERR_SWITCHYARD_FORMAT naming file and field or tensor.
 */
export function readGolden(path: string): Golden {
  const json = path.endsWith(".json") ? path : join(path, "golden.json");
  const file = `${json.slice(0, -".json".length)}.safetensors`;
  for (const name of [json, file]) {
    check(existsSync(name) && statSync(name).isFile(), "ERR_SWITCHYARD_CHECKPOINT", () => `golden: ${name} is no file; name a folder with golden.json and golden.safetensors`);
  }
  const { input_ids: input, decoder_input_ids: decoderIds, greedy_prompt_ids: prompt, greedy_ids: answer, f32_logit_error: f32Error } = conform(schema, readJsonFile(json), json);
  const ids = typeof input[0] === "number" ? [input as number[]] : (input as number[][]);
  for (const [field, rows] of [["input_ids", ids], ["decoder_input_ids", decoderIds ?? []]] as const) {
    const other = rows.find((r) => r.length !== rows[0]?.length);
    check(other === undefined, "ERR_SWITCHYARD_FORMAT", () => `${json}: ${field}: expected rows of one length, got ${rows[0]?.length} and ${other?.length}`);
  }
  check(decoderIds === undefined || decoderIds.length === ids.length, "ERR_SWITCHYARD_FORMAT", () => `${json}: decoder_input_ids: expected ${ids.length} rows as in input_ids, got ${decoderIds?.length}`);
  check((prompt === undefined) === (answer === undefined), "ERR_SWITCHYARD_FORMAT", () => `${json}: expected greedy_prompt_ids and greedy_ids, got only one of them`);
  const greedy = prompt === undefined || answer === undefined ? undefined : { prompt, ids: answer };
  const stored = readSafetensorsHeader(file).tensors;
  const logits = stored.get("logits");
  const golden = { source: file, ids, decoderIds, greedy, f32Error, logits: logits && readNumbers(file, "logits", logits), layers: readLayers(file, stored) };
  checkGolden(golden);
  return golden;
}

/** Elements of a tensor as numbers, exactly; an integer of 64 bits must be one that a number holds. */
const decoders: Partial<Record<SafetensorsDtype, { bytes: number; decode: (buffer: ArrayBuffer) => ArrayLike<number> }>> = {
  F64: { bytes: 8, decode: (b) => new Float64Array(b) },
  F32: { bytes: 4, decode: (b) => new Float32Array(b) },
  F16: { bytes: 2, decode: (b) => f16ToF32(new Uint16Array(b)) },
  BF16: { bytes: 2, decode: (b) => bf16ToF32(new Uint16Array(b)) },
  I64: { bytes: 8, decode: (b) => Array.from(new BigInt64Array(b), Number) },
  I32: { bytes: 4, decode: (b) => new Int32Array(b) },
  BOOL: { bytes: 1, decode: (b) => new Uint8Array(b) },
};

/** Elements read at a time. */
const chunkElements = 2 ** 18;

function readNumbers(file: string, name: string, { dtype, shape, begin, end }: StoredTensor): GoldenTensor {
  const decoder = decoders[dtype];
  check(decoder !== undefined, "ERR_SWITCHYARD_UNSUPPORTED", () => `${file}: tensor "${name}": dtype: expected one of ${Object.keys(decoders).join(", ")}, got ${dtype}`);
  const values = new Float64Array((end - begin) / decoder.bytes);
  let first = 0;
  for (const { buffer } of readChunks(file, begin, end, chunkElements * decoder.bytes)) {
    const piece = decoder.decode(buffer);
    values.set(piece, first);
    first += piece.length;
  }
  return { shape, values };
}

function readLayers(file: string, stored: ReadonlyMap<string, StoredTensor>): GoldenLayer[] {
  const layers = new Map<LayerName, GoldenLayer>();
  for (const [name, tensor] of stored) {
    const [, number, side, kind] = /^(?:layers\.(\d{1,5})|((?:encoder|decoder)\.\d{1,5}))\.(\w+)$/.exec(name) ?? [];
    const layer = side ?? Number(number);
    if (!layerTensors.includes(kind as LayerTensor)) continue;
    const known = layers.get(layer) ?? { layer };
    layers.set(layer, { ...known, [kind as LayerTensor]: readNumbers(file, name, tensor) });
  }
  return [...layers.values()].sort((a, b) => String(a.layer).localeCompare(String(b.layer), "en", { numeric: true }));
}

/** Shapes fit the ids and each other, experts are expert numbers, and there is something to compare with. */
function checkGolden({ source, ids, decoderIds, logits, layers, greedy }: Golden): void {
  const require = checker("ERR_SWITCHYARD_FORMAT", source);
  const tokens = (rows: Golden["ids"]) => rows.length * (rows[0]?.length ?? 0);
  const answered = tokens(decoderIds ?? ids);
  require(logits !== undefined || layers.length > 0 || greedy !== undefined, () => "expected logits or tensors of layers, found neither");
  require(logits === undefined || isMatrix(logits, answered), () => `tensor "logits": expected [tokens..., vocabulary] for ${answered} token ids, got [${logits?.shape.join(", ")}]`);
  for (const layer of layers) {
    const prefix = layerPrefix(layer.layer);
    const rows = prefix.startsWith("decoder") ? answered : tokens(ids);
    for (const kind of layerTensors) {
      const tensor = layer[kind];
      const whole = kind === "dropped" ? tensor?.values.length === rows : tensor && isMatrix(tensor, rows);
      require(tensor === undefined || whole === true, () => `tensor "${prefix}.${kind}": expected ${rows} rows, one for each token id, got [${tensor?.shape.join(", ")}]`);
    }
    const { experts, weights } = layer;
    require(experts?.values.every((e) => Number.isInteger(e) && e >= -1) !== false, () => `tensor "${prefix}.experts": expected expert numbers, or -1 where dropped`);
    require(weights === undefined || weights.values.length === experts?.values.length, () => `tensor "${prefix}.weights": expected one for each of "${prefix}.experts" [${experts?.shape.join(", ") ?? "missing"}], got [${weights?.shape.join(", ")}]`);
  }
}

const isMatrix = ({ shape, values }: GoldenTensor, rows: number): boolean => shape.length >= 2 && values.length > 0 && values.length / (shape.at(-1) as number) === rows;
