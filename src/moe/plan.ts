import type { Tape } from "../autograd/tape.js";
import type { RowGroups } from "../ops/index.js";
import type { Routing } from "../routing/types.js";
import type { Tensor } from "../tensor/tensor.js";

/** Where every routed row goes: computed once per layer; forward, backward, trace and statistics all read it. */
export interface DispatchPlan extends RowGroups {
  /** i32 [N]: sorted row -> slot t * K + k of the decision. */
  slots: Tensor;
}

/** Sorts the rows of a routing decision by expert, stably, so that each expert's rows are contiguous and in token order. */
export function dispatchPlan(tape: Tape, routing: Routing): DispatchPlan {
  const { experts, logits, filled = false, dropped } = routing;
  const rows = filled && dropped === 0 ? experts.size : routing.load.reduce((sum, n) => sum + n, 0) - dropped;
  const plan = {
    offsets: tape.alloc([logits.cols + 1], "i32"),
    slots: tape.alloc([rows], "i32"),
    tokens: tape.alloc([rows], "i32"),
    positions: tape.alloc(experts.shape, "i32"),
  };
  tape.engine.sortByExpert(plan.offsets, plan.slots, plan.tokens, plan.positions, experts);
  return plan;
}
