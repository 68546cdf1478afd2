import type { Engine } from "../../engine/engine.js";
import { checkShape, type Tensor } from "../../tensor/tensor.js";
import { check } from "../../errors.js";

export interface SelectionBiasOptions {
  /** Largest change per step; 1e-3 in the paper and in DeepSeek-V3. */
  rate: number;
  /** sign: by +-rate. proportional: by rate times the relative shortfall, clipped to [-1, 1]. */
  update: "sign" | "proportional";
}

/**
 * Loss-free balancing (Wang et al. 2024, arXiv 2408.15664): raises the selection bias [E] of experts below the mean
 * load and lowers it above, b_i += rate * sign(mean - c_i), or rate * clip((mean - c_i) / mean, -1, 1). Called once after
 * each optimiser step with the integer counts of all its tokens, per layer. An exactly average expert stays, as do all without tokens.
 */
export function updateSelectionBias(engine: Engine, bias: Tensor, load: ArrayLike<number>, { rate, update }: SelectionBiasOptions): void {
  checkShape("updateSelectionBias", "the bias", bias, [load.length]);
  const count_E = Array.from(load);
  check(
    count_E.every((n) => Number.isInteger(n) && n >= 0),
    "ERR_SWITCHYARD_USAGE",
    () => `updateSelectionBias: expected integer counts, so that the sign of their difference from the mean is exact, got [${count_E.join(", ")}]`,
  );
  const total = count_E.reduce((a, b) => a + b, 0);
  if (total === 0) return;
  // mean - c_i, times E to stay among integers.
  const shortfall = (n: number) => total - n * count_E.length;
  const step = (n: number) => (update === "sign" ? Math.sign(shortfall(n)) : Math.max(-1, shortfall(n) / total));
  const bias_E = engine.read(bias);
  engine.write(bias, count_E.map((n, e) => (bias_E[e] as number) + rate * step(n)));
}
