import type { Engine } from "../engine/engine.js";
import type { FileReads } from "../engine/memory.js";
import type { StoredMatrix } from "../model/mapped.js";
import type { CacheCounts } from "../model/residency/counts.js";
import { expertBytes, type StoredExperts } from "../model/residency/stored-experts.js";
import { type Slot, SlotMemory } from "../model/residency/slots.js";
import { Random } from "../tensor/random.js";

/** What a cache of experts came to. */
export interface CacheReport {
  /** Part of the experts' uses that found them in memory, and part that found them read, or being read, ahead. */
  hitRate: number;
  aheadRate: number;
  /** Part of the experts read ahead that were then needed; null where there were none. */
  foreseen: number | null;
  bytesPerToken: number;
}

export function cacheReport({ needed, hits, ahead, forecast, foreseen, bytesRead, tokens }: CacheCounts): CacheReport {
  const share = (n: number) => n / Math.max(1, needed);
  return { hitRate: share(hits), aheadRate: share(ahead), foreseen: forecast === 0 ? null : foreseen / forecast, bytesPerToken: bytesRead / Math.max(1, tokens) };
}

/** Adds to `sum` what was counted since `before`. */
export function addCounts(sum: CacheCounts, counts: CacheCounts, before: CacheCounts): void {
  for (const key of Object.keys(sum) as (keyof CacheCounts)[]) sum[key] += counts[key] - before[key];
}

/** Bytes per second at which experts come from their files: half a second of reads of whole experts here and there, four at a time. */
export function measureReadRate(engine: Engine, layers: readonly StoredExperts[]): number {
  using memory = new SlotMemory(engine, expertBytes(layers));
  memory.grow(4);
  const { slots } = memory;
  const random = new Random(1);
  const paths = new Set(layers.flatMap(({ up, down }) => [...up, down].flat()).map(({ file }) => file));
  const files = new Map([...paths].map((path) => [path, engine.openFile(path)]));
  try {
    let bytes = 0;
    const begin = performance.now();
    for (let i = 0; performance.now() - begin < 500; i++) {
      const { up, down } = layers[random.below(layers.length)] as StoredExperts;
      const e = random.below(down.length);
      const slot = slots[i % slots.length] as Slot;
      slot.finish();
      slot.assign(e, [...up, down].map((part) => part[e] as StoredMatrix), { file: (path) => files.get(path) as FileReads, repack: () => {} });
      bytes += slot.fetch(false);
    }
    for (const slot of slots) slot.finish();
    return (1000 * bytes) / (performance.now() - begin);
  } finally {
    for (const slot of slots) slot.clear();
    for (const file of files.values()) file.close();
  }
}
