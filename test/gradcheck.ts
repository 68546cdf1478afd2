import { Arena } from "../src/engine/arena.js";
import type { Engine } from "../src/engine/engine.js";
import { check } from "../src/errors.js";
import type { Tensor } from "../src/tensor/tensor.js";
import { Tape, type TapeOptions } from "../src/autograd/tape.js";

interface GradcheckOptions {
  /** Step of the central difference. */
  eps?: number;
  absolute?: number;
  relative?: number;
  tape?: TapeOptions;
}

export interface GradcheckInput {
  shape: readonly number[];
  values: readonly number[];
}

/** Fixed, unequal weights: a plain sum would hide errors that cancel. */
const weightOf = (i: number) => 0.5 + Math.sin(1 + 2.3 * i);

/**
 * Compares the gradients of sum(weight_i * f(inputs)_i) with central differences, element by element, on an f64 engine.
 * Returns the names of the elements that differ by more than absolute + relative * |difference|; empty means correct.
 */
export function gradcheck(engine: Engine, f: (tape: Tape, inputs: Tensor[]) => Tensor, inputs: readonly GradcheckInput[], options: GradcheckOptions = {}): string[] {
  check(engine.float === "f64", "ERR_SWITCHYARD_DTYPE", () => "gradcheck: expected an engine that works in f64; make one with { engine: \"reference\", float: \"f64\" }");
  const { eps = 1e-6, absolute = 1e-5, relative = 1e-3 } = options;
  using arena = new Arena(engine, 2 ** 22);
  using constants = new Arena(engine, 2 ** 22);
  const leaves = inputs.map(({ shape, values }) => {
    const t = constants.alloc("f64", shape);
    engine.write(t, values);
    t.requiresGrad = true;
    t.grad = constants.alloc("f64", shape);
    engine.fill(t.grad, 0);
    return t;
  });
  const run = (recording: boolean) => {
    arena.reset();
    const tape = new Tape(engine, arena, { seed: 7, ...options.tape, recording });
    return { tape, out: f(tape, leaves) };
  };
  const objective = () => Array.from(engine.read(run(false).out)).reduce((sum, y, i) => sum + weightOf(i) * y, 0);

  const { tape, out } = run(true);
  tape.backward(out, tape.constant(out.shape, Float64Array.from({ length: out.size }, (_, i) => weightOf(i))));
  const failures: string[] = [];
  leaves.forEach((leaf, n) => {
    const analytic = engine.read(leaf.grad as Tensor);
    const values = Float64Array.from((inputs[n] as GradcheckInput).values);
    for (let i = 0; i < values.length; i++) {
      const at = (delta: number) => {
        const moved = values.slice();
        moved[i] = (moved[i] as number) + delta;
        engine.write(leaf, moved);
        return objective();
      };
      const numeric = (at(eps) - at(-eps)) / (2 * eps);
      const got = analytic[i] as number;
      if (!(Math.abs(got - numeric) <= absolute + relative * Math.abs(numeric))) failures.push(`input ${n} element ${i}: tape ${got}, difference ${numeric}`);
    }
    engine.write(leaf, values);
  });
  return failures;
}
