/** What a cache of experts has done so far, each expert of each pass and layer counted once. */
export interface CacheCounts {
  /** Experts that were needed. Of them `hits` were in memory, `ahead` were being read because of a forecast, and the others were only then asked for. */
  needed: number;
  hits: number;
  ahead: number;
  /** Experts that were read ahead because of a forecast, and those of them that were then needed. */
  forecast: number;
  foreseen: number;
  bytesRead: number;
  tokens: number;
}

export const emptyCounts = (): CacheCounts => ({ needed: 0, hits: 0, ahead: 0, forecast: 0, foreseen: 0, bytesRead: 0, tokens: 0 });
