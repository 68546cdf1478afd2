import { describe, expect, it } from "vitest";
import type { TypedArray } from "../tensor/dtype.js";
import type { Engine } from "./engine.js";
import { Maker, matrixOpCases, type OpCase, smallOpCases } from "../../test/op-cases.js";
import { ReferenceEngine } from "./reference.js";

const exact = new ReferenceEngine({ float: "f64" });
const reference = new ReferenceEngine({ float: "f32" });

function results(engine: Engine, run: OpCase["run"]): TypedArray[] {
  const make = new Maker(engine);
  try {
    return run(make).map((t) => engine.read(t));
  } finally {
    make.free();
  }
}

/** Mean squared difference over mean square of the expected values. */
function nmse(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let error = 0;
  let power = 0;
  for (let i = 0; i < expected.length; i++) {
    error += (got[i] - expected[i]) ** 2;
    power += expected[i] ** 2;
  }
  return error === 0 ? 0 : error / power;
}

function expectClose(got: readonly TypedArray[], expected: readonly TypedArray[], limit: number): void {
  expect(got.length).toBe(expected.length);
  for (const [i, values] of got.entries()) {
    expect(values.length).toBe(expected[i].length);
    if (values instanceof Int32Array) expect(values).toEqual(expected[i]);
    else expect(nmse(values, expected[i]), `output ${i}`).toBeLessThanOrEqual(limit);
  }
}

describe("reference f32 equals reference f64", () => {
  it.each([...smallOpCases, ...matrixOpCases].map((c) => [c.name, c] as const))("%s", (_, { run }) => {
    expectClose(results(reference, run), results(exact, run), 1e-12);
  });
});
