import type { AttentionDims } from "./engine.js";

/** The keys [first, end) of its sequence that query `i` of attention sees. */
export function visibleKeys({ queries, keys, causal = true, window = 0, chunk = 0 }: AttentionDims, i: number): { first: number; end: number } {
  if (!causal) return { first: 0, end: keys };
  const position = keys - queries + i;
  const ofWindow = window > 0 ? position + 1 - window : 0;
  const ofChunk = chunk > 0 ? position - (position % chunk) : 0;
  return { first: Math.max(0, ofWindow, ofChunk), end: position + 1 };
}
