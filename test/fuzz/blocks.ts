import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Arena } from "../../src/engine/arena.js";
import type { Engine, Region } from "../../src/engine/engine.js";
import { loadEngine } from "../../src/engine/load.js";
import { type GgufType, ggufTypes } from "../../src/formats/gguf/types.js";
import { decodeBlocks } from "../../src/quant/codecs.js";
import { byteLength, type StoredDType, storedBlocks } from "../../src/tensor/dtype.js";
import { Random } from "../../src/tensor/random.js";
import { type Tensor, view } from "../../src/tensor/tensor.js";
import { chance, pick } from "./mutate.js";
import { accepted, ensure, type Target } from "./target.js";

const ggufNames = new Map(Object.keys(ggufTypes).map((name) => [name.toLowerCase(), name as GgufType]));
const types = (Object.keys(storedBlocks) as StoredDType[]).filter((type) => ggufNames.has(type));
const [maxRows, maxCols] = [4, 512];

interface Setting {
  engine: Engine;
  bytes: Uint8Array;
  region: Region;
  out: Tensor;
  x: Tensor;
  product: Tensor;
  rows: Tensor;
}
let setting: Setting | undefined;

/** A mapped file of whole pages full of random bytes: to read beyond its end is a fault. */
function open(): Setting {
  const engine = loadEngine();
  const folder = mkdtempSync(join(tmpdir(), "switchyard-fuzz-"));
  const file = join(folder, "blocks");
  const random = new Random(1);
  const bytes = Uint8Array.from({ length: 64 * 4096 }, () => random.next() & 255);
  writeFileSync(file, bytes);
  const region = engine.mapFile(file);
  rmSync(folder, { recursive: true });
  const arena = new Arena(engine);
  const [out, x, product, rows] = [arena.alloc("f32", [maxRows, maxCols]), arena.alloc("f32", [2, maxCols]), arena.alloc("f32", [2, maxRows]), arena.alloc("i32", [maxRows])];
  engine.normal(x, 1, 1);
  return { engine, bytes, region, out, x, product, rows };
}

export const blocks: Target = {
  about: "random bytes of a mapped file as rows of every stored type that GGUF has: decoded by the engine as by the codecs, and multiplied",
  run(random) {
    setting ??= open();
    const { engine, bytes, region, out, x, product, rows } = setting;
    const type = pick(random, types);
    const cols = storedBlocks[type][0] * (1 + random.below(2));
    const count = 1 + random.below(maxRows);
    const size = byteLength(type, cols * count);
    // Often the last bytes of the file.
    const begin = chance(random, 0.3) ? bytes.length - size : random.below(bytes.length + 32 * 1024);
    const table = accepted(() => region.tensor(type, [count, cols], begin), ["ERR_SWITCHYARD_ENGINE"], "region: ");
    ensure((table !== undefined) === begin + size <= bytes.length, "a tensor lies in its file, or is refused");
    if (table === undefined) return false;
    const ids = Int32Array.from({ length: maxRows }, () => random.below(count));
    engine.write(rows, ids);
    engine.gatherRows(view(out, [maxRows, cols]), table, rows);
    const decoded = decodeBlocks(ggufNames.get(type) as GgufType, bytes.slice(begin, begin + size));
    const read = engine.read(view(out, [maxRows, cols]));
    ids.forEach((id, i) => {
      for (let c = 0; c < cols; c++) {
        const [got, expected] = [read[i * cols + c], decoded[id * cols + c]];
        ensure(Object.is(got, expected), () => `${type} at ${begin}: row ${id}, column ${c} is ${got}, expected ${expected}`);
      }
    });
    engine.matmul("nt", view(product, [2, count]), view(x, [2, cols]), table);
    return true;
  },
};
