import type { Size } from "../model/presets.js";
import type { TrainInput } from "./options.js";

/**
 * How long and how fast each size is trained unless told otherwise: about 1, 10 and 60 minutes on two cores. Batches are of some
 * 2,000 to 4,000 tokens, below which the experts' matrix products become too small to be fast.
 */
export const trainingPresets = {
  xs: { steps: 600, batch: 16, learningRate: 2e-3 },
  s: { steps: 900, batch: 8, learningRate: 1e-3 },
  m: { steps: 900, batch: 8, learningRate: 6e-4 },
} as const satisfies Record<Size, Pick<TrainInput, "steps" | "batch" | "learningRate">>;
