import type { JsonObject } from "../../src/formats/json.js";
import { parseSafetensors, type SafetensorsDtype, storedBytes } from "../../src/formats/safetensors.js";
import { memorySource } from "../../src/formats/source.js";
import type { Random } from "../../src/tensor/random.js";
import { writeJson } from "./json-text.js";
import { chance, edge, mutateBytes, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

const dtypes: readonly SafetensorsDtype[] = ["F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4", "F6_E2M3", "C64"];
const alphabet = new TextEncoder().encode('{}[]",:0123456789-.eE\\u dtypeshaoffsF');
const encoder = new TextEncoder();

/** A header that is right, and the bytes of data that belong to it. */
export function safetensorsHeader(random: Random, names: readonly string[]): { header: JsonObject; dataBytes: number } {
  const header: JsonObject = chance(random, 0.5) ? { __metadata__: { format: "pt" } } : {};
  let at = 0;
  for (const name of names) {
    const dtype = pick(random, dtypes);
    const shape = Array.from({ length: random.below(4) }, () => random.below(6));
    const bytes = storedBytes(dtype, shape);
    if (bytes === undefined) continue;
    header[name] = { dtype, shape, data_offsets: [at, at + bytes] };
    at += bytes;
  }
  return { header, dataBytes: at };
}

/** A whole file, perhaps spoiled. */
function file(random: Random): Uint8Array {
  const { header, dataBytes } = safetensorsHeader(random, Array.from({ length: random.below(6) }, (_, i) => `t.${i}`));
  const spoiled = chance(random, 0.9);
  const json = encoder.encode(writeJson(header, random, spoiled ? 0.02 : 0) + (chance(random, 0.1) ? "   " : ""));
  const bytes = new Uint8Array(8 + json.length + (spoiled && chance(random, 0.1) ? random.below(100) : dataBytes));
  new DataView(bytes.buffer).setBigUint64(0, spoiled && chance(random, 0.05) ? edge(random) : BigInt(json.length), true);
  bytes.set(json, 8);
  return spoiled && chance(random, 0.5) ? mutateBytes(bytes, random, alphabet) : bytes;
}

export const safetensors: Target = {
  about: "safetensors files: headers with a wrong value here and there, and bytes changed anywhere",
  run(random) {
    const bytes = file(random);
    const read = accepted(() => parseSafetensors(memorySource(bytes, "x.safetensors")), ["ERR_SWITCHYARD_FORMAT"], "x.safetensors: ");
    if (read === undefined) return false;
    let at = read.dataStart;
    for (const { dtype, shape, begin, end } of [...read.tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
      ensure(begin === at && storedBytes(dtype, shape) === end - begin, "every byte belongs to one tensor, whose shape says how many");
      at = end;
    }
    ensure(at === bytes.length && read.fileBytes === bytes.length, "the tensors fill the file");
    return true;
  },
};
