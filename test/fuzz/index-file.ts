import { type CheckpointTensor, shardedTensors } from "../../src/formats/checkpoint.js";
import { parseJson } from "../../src/formats/json.js";
import { parseSafetensors, type SafetensorsHeader } from "../../src/formats/safetensors.js";
import { memorySource } from "../../src/formats/source.js";
import { safetensorsHeader } from "./safetensors.js";
import { writeJson } from "./json-text.js";
import { chance, mutateBytes, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

const alphabet = new TextEncoder().encode('{}[]",:weight_map.safetensors/\\012');
const encoder = new TextEncoder();

export const indexFile: Target = {
  about: "model.safetensors.index.json over shards in memory, tensors moved between them",
  run(random) {
    const shards = new Map<string, SafetensorsHeader>();
    const map: Record<string, string> = {};
    for (let s = 0; s < 1 + random.below(3); s++) {
      const name = `model-0000${s}.safetensors`;
      const { header, dataBytes } = safetensorsHeader(random, Array.from({ length: random.below(4) }, (_, i) => `t.${chance(random, 0.02) ? 0 : s}.${i}`));
      const json = encoder.encode(JSON.stringify(header));
      const bytes = new Uint8Array(8 + json.length + dataBytes);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
      bytes.set(json, 8);
      shards.set(name, parseSafetensors(memorySource(bytes, name)));
      for (const tensor of Object.keys(header)) if (tensor !== "__metadata__") map[tensor] = chance(random, 0.01) ? pick(random, ["../x.safetensors", "/etc/passwd", "model-00000.safetensors", "none.safetensors"]) : name;
    }
    let bytes: Uint8Array = encoder.encode(writeJson({ metadata: { total_size: 1 }, weight_map: map }, random, 0.01));
    if (chance(random, 0.3)) bytes = mutateBytes(bytes, random, alphabet);
    const read = () => shardedTensors(parseJson(bytes, "dir/index.json"), "dir/index.json", (shard) => shards.get(shard));
    const tensors = accepted<Map<string, CheckpointTensor>>(read, ["ERR_SWITCHYARD_FORMAT", "ERR_SWITCHYARD_CHECKPOINT"], "dir/");
    if (tensors === undefined) return false;
    for (const [name, { file, begin, end }] of tensors) {
      const stored = shards.get(file.slice("dir/".length))?.tensors.get(name);
      ensure(stored !== undefined && stored.begin === begin && stored.end === end, "a tensor is where its shard says");
    }
    return true;
  },
};
