import { expect, it } from "vitest";
import { cacheReport } from "./residency.js";

it("says what part of the uses found their expert, was read ahead, and came true", () => {
  expect(cacheReport({ needed: 10, hits: 4, ahead: 3, forecast: 5, foreseen: 1, bytesRead: 100, tokens: 8 })).toEqual({ hitRate: 0.4, aheadRate: 0.3, foreseen: 0.2, bytesPerToken: 12.5 });
});
