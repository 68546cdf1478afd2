import { expect, it } from "vitest";
import type { Tensor } from "../tensor/tensor.js";
import { Arena } from "./arena.js";
import { ReferenceEngine } from "./reference.js";

const engine = new ReferenceEngine();
const bytesOf = ({ storage }: Tensor) => storage as Float32Array;

it("what is released is handed out again once, however often it was released", () => {
  using arena = new Arena(engine, 1024);
  const first = arena.alloc("f32", [10]);
  for (let i = 0; i < 3; i++) arena.release(first);
  const [second, third] = [arena.alloc("f32", [16]), arena.alloc("f32", [4, 4])];
  expect([bytesOf(second).byteOffset, bytesOf(third).byteOffset]).toEqual([0, 64]);
});

it("what does not fit goes to another region, and after a reset all memory is used again", () => {
  const before = engine.allocatedBytes;
  using arena = new Arena(engine, 1024);
  const fill = () => [600, 600, 5000, 300].map((bytes) => arena.alloc("f32", [bytes / 4]));
  const tensors = fill();
  tensors.forEach((t, i) => engine.fill(t, i));
  expect(tensors.map((t) => new Set(engine.read(t)))).toEqual([0, 1, 2, 3].map((i) => new Set([i])));
  const held = engine.allocatedBytes - before;
  arena.reset();
  expect(fill().map((t) => bytesOf(t).buffer)).toEqual(tensors.map((t) => bytesOf(t).buffer));
  expect(engine.allocatedBytes - before).toBe(held);
  arena[Symbol.dispose]();
  expect(engine.allocatedBytes).toBe(before);
});
