import { mul } from "../../ops/index.js";
import { route } from "../../routing/route.js";
import type { Router, RouterConfig } from "../../routing/types.js";

/**
 * Top-1 routing in which each sequence gives an expert at most `capacity` rows, first come, first served; the tokens beyond pass by.
 * `used` has one array [E] per sequence, the rows given so far, and is brought up to date: a sequence that goes on token by token
 * drops the same tokens as in one pass.
 */
export function sequenceCapacityRouter(config: RouterConfig, capacity: number, used: readonly Int32Array[]): Router {
  return (input) => {
    const routing = route(config, input);
    const { tape } = input;
    const experts_T = tape.engine.read(routing.experts);
    const length = experts_T.length / used.length;
    const kept_T = Float32Array.from(experts_T, (e, t) => {
      const used_E = used[Math.floor(t / length)] as Int32Array;
      return (used_E[e] as number)++ < capacity ? 1 : 0;
    });
    const dropped = kept_T.filter((kept) => kept === 0).length;
    if (dropped === 0) return routing;
    return {
      ...routing,
      experts: tape.constant(routing.experts.shape, experts_T.map((e, t) => (kept_T[t] === 1 ? e : -1)), "i32"),
      weights: mul(tape, routing.weights, tape.constant(routing.weights.shape, kept_T)),
      dropped,
      fullyDropped: dropped,
    };
  };
}
