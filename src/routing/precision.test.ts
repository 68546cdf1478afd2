import { describe, expect, it } from "vitest";
import { sameBits } from "../../test/engines.js";
import { engines, Maker } from "../../test/op-maker.js";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { add, linear, mean, sum } from "../ops/index.js";
import { routerConfig } from "./presets.js";
import { decide, route } from "./route.js";
import type { RouterConfig, RouterParameters } from "./types.js";

/** Experts, balance loss, and the gradient of it and the weights, of one token. */
function run(engine: Engine, overrides: Partial<RouterConfig>, k: number, values: readonly number[], bias?: readonly number[]) {
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

describe.each(engines.map((engine) => [`${engine.name} ${engine.isa}`, engine] as const))("%s", (_, engine) => {
  const balance = { method: "switch", coefficient: 1 } as const;

  it.each<[string, Partial<RouterConfig>, number[]]>([
    ["sqrt-softplus, one that underflows", { score: "sqrt-softplus" }, [1, 2, -110, 0]],
    ["sqrt-softplus, far apart", { score: "sqrt-softplus" }, [80, -1e30, 0, 0]],
    ["sigmoids that all underflow", { score: "sigmoid", normalize: { eps: 1e-20, p: 1 } }, [-110, -111, -112, -113]],
  ])("%s: loss and gradient stay finite", (__, overrides, values) => {
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

  it("a tape of bf16 projects in f32, logits and noise", () => {
    const make = new Maker(engine);
    const [x, weight, noise, bias] = [make.floats([37, 64]), make.floats([16, 64]), make.floats([16, 64]), make.floats([16])] as const;
    const logitsOf = (precision: "f32" | "bf16", config: RouterConfig, parameters: RouterParameters, training: boolean) => {
      using scratch = new Arena(engine);
      const tape = new Tape(engine, scratch, { precision, training, seed: 6 });
      // Else there is no rounding to be seen.
      expect(sameBits(engine.read(linear(tape, x, weight)), engine.read(linear(tape, x, weight, undefined, "f32")))).toBe(precision === "f32");
      return engine.read(route(config, { tape, x, parameters, k: 2 }).logits).slice();
    };
    for (const [name, config, parameters, training] of [
      ["clean", routerConfig("softmax-top-k"), { weight }, false],
      ["with a bias", routerConfig("softmax-top-k", { bias: true }), { weight, bias }, true],
      ["noisy", routerConfig("shazeer"), { weight, noise }, true],
    ] as const) {
      expect(sameBits(logitsOf("bf16", config, parameters, training), logitsOf("f32", config, parameters, training)), name).toBe(true);
    }
    make.free();
  });
});
