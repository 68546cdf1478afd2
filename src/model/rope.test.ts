import { expect, it } from "vitest";
import { ReferenceEngine } from "../engine/reference.js";
import { modelConfig } from "./presets.js";
import { RopeTables } from "./rope.js";

it("keeps one table per rotary embedding, the longest so far", () => {
  const config = modelConfig({ vocab: 8, width: 16, layers: 1, heads: 2, context: 2048 });
  const engine = new ReferenceEngine();
  using tables = new RopeTables(engine, config);
  const short = tables.get(0, 10);
  expect(tables.get(0, 256)).toBe(short);
  const [rows] = short.tensor.shape;
  const held = engine.allocatedBytes;
  const long = tables.get(0, 1025);
  expect([rows, ...long.tensor.shape]).toEqual([256, 2048, 8]);
  expect(engine.allocatedBytes).toBe(8 * held);
  expect(tables.get(0, 3)).toBe(long);
  expect(engine.read(long.tensor).slice(0, 256 * 8)).toEqual(engine.read(new RopeTables(engine, config).get(0, 1).tensor));
});
