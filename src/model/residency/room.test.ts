import { afterEach, expect, it, vi } from "vitest";
import { headroom, processRoom } from "./room.js";

const MiB = 2 ** 20;
let size = 100 * MiB;
const rss = vi.spyOn(process.memoryUsage, "rss").mockImplementation(() => size);
afterEach(() => {
  size = 100 * MiB;
});
const needs = { dense: 50 * MiB, slot: 2 * MiB, experts: 8 };

it("is what the process, the dense part and results that are still to come leave", () => {
  const room = processRoom(150 * MiB + headroom + 40 * MiB, needs);
  expect(room(0, 0)).toBe(20);
  // Nothing of the dense part has been read yet, but it will be; and the results come on top.
  expect(room(0, 6 * MiB)).toBe(17);
  // They are there, and so are 17 experts, which are not counted twice.
  size = (150 + 6 + 34) * MiB;
  expect(room(34 * MiB, 0)).toBe(17);
  // The process has grown by 4 MiB more; that it is smaller again at the next look changes nothing.
  size += 4 * MiB;
  expect(room(34 * MiB, 0)).toBe(15);
  size -= 20 * MiB;
  expect(room(30 * MiB, 0)).toBe(15);
  expect(room(30 * MiB, 30 * MiB)).toBe(5);
  expect(rss).toHaveBeenCalled();
});

it("refuses what is too small for one layer's experts, and names what does", () => {
  const least = 150 * MiB + headroom + 16 * MiB;
  expect(() => processRoom(least - 1, needs)).toThrow(
    expect.objectContaining({ code: "ERR_SWITCHYARD_MEMORY", message: expect.stringMatching(/at least 278 MiB: 50 for the dense part, 16 for the 8 experts of one layer, 196 for Node and activations; got 261 MiB/) }),
  );
  expect(processRoom(least, needs)(0, 0)).toBe(8);
});
