import { describe, expect, it } from "vitest";
import { nativeVariants } from "../../test/engines.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { loadEngine } from "../engine/load.js";
import { add, mean, sum } from "../ops/index.js";
import { routerConfig } from "./presets.js";
import { decide } from "./route.js";
import type { RouterConfig } from "./types.js";

/** Experts, balance loss, and the gradient of it and the weights, of one token. */
function run(engine: ReturnType<typeof loadEngine>, overrides: Partial<RouterConfig>, k: number, values: readonly number[], bias?: readonly number[]) {
  using arena = new Arena(engine);
  const tape = new Tape(engine, arena, { recording: true });
  const logits = tape.alloc([1, values.length]);
  engine.write(logits, values);
  logits.requiresGrad = true;
  logits.grad = tape.alloc([1, values.length]);
  const selectionBias = bias === undefined ? undefined : tape.constant([bias.length], bias);
  const { experts, weights, losses, raw } = decide(routerConfig("softmax-top-k", overrides), { tape, logits, k, selectionBias });
  const total = Object.values(losses).reduce((all, loss) => add(tape, all, loss), mean(tape, sum(tape, weights, "rows")));
  tape.backward(total, 1);
  return { experts: [...engine.read(experts)], raw: raw.balance, gradient: [...engine.read(logits.grad)] };
}

describe.each(nativeVariants.length > 0 ? (["reference", "native"] as const) : (["reference"] as const))("logits at the end of what floats hold: %s engine", (name) => {
  const engine = loadEngine({ engine: name });
  const balance = { method: "switch", coefficient: 1 } as const;

  it.each<[string, Partial<RouterConfig>, number[]]>([
    ["sqrt-softplus, one that underflows", { score: "sqrt-softplus" }, [1, 2, -110, 0]],
    ["sqrt-softplus, far apart", { score: "sqrt-softplus" }, [80, -1e30, 0, 0]],
    ["sigmoids that all underflow", { score: "sigmoid", normalize: { eps: 1e-20, p: 1 } }, [-110, -111, -112, -113]],
  ])("%s: loss and gradient stay finite", (_, overrides, values) => {
    const { raw, gradient } = run(engine, { ...overrides, balance }, 2, values);
    expect([raw, ...gradient].every((x) => Number.isFinite(x)), `${raw}; ${gradient.join()}`).toBe(true);
  });

  it("without noise, stochastic selection chooses as top-k does, with a bias or groups too", () => {
    const cases: [Partial<RouterConfig>, number[], number[]?][] = [
      [{ score: "sigmoid", selectionBias: true }, [3, 1, 0, -1], [0, 0.3, 0, 0]],
      [{ score: "sigmoid", groups: { count: 2, keep: 1, score: "top2sum" } }, [9, -5, 2, 1.5]],
    ];
    for (const [overrides, values, bias] of cases) {
      const [drawn, best] = (["stochastic", "top-k"] as const).map((selection) => run(engine, { ...overrides, selection }, 1, values, bias).experts);
      expect(drawn).toEqual(best);
    }
  });
});
