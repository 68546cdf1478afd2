import { describe, expect, it } from "vitest";
import type { TypedArray } from "../tensor/dtype.js";
import type { Engine } from "./engine.js";
import { nmse, sameBits } from "../../test/engines.js";
import { smallOpCases } from "../../test/op-cases.js";
import { Maker, nativeEngines, type OpCase } from "../../test/op-maker.js";
import { attentionOpCases, matrixOpCases } from "../../test/product-cases.js";
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

function expectClose(got: readonly TypedArray[], expected: readonly TypedArray[], limit: number): void {
  expect(got.length).toBe(expected.length);
  for (const [i, values] of got.entries()) {
    expect(values.length).toBe(expected[i].length);
    if (values instanceof Int32Array) expect(sameBits(values, expected[i]), `output ${i}`).toBe(true);
    else expect(nmse(values, expected[i]), `output ${i}`).toBeLessThanOrEqual(limit);
  }
}

/** Results of the reference engine, which every kernel variant is compared with. */
const expected = new Map<string, TypedArray[]>();

function expectedOf({ name, run }: OpCase): TypedArray[] {
  const known = expected.get(name) ?? results(reference, run);
  expected.set(name, known);
  return known;
}

const byName = (cases: readonly OpCase[]) => cases.map((c) => [c.name, c] as const);

describe("reference f32 equals reference f64", () => {
  it.each(byName([...smallOpCases, ...attentionOpCases, ...matrixOpCases]))("%s", (_, opCase) => {
    expectClose(expectedOf(opCase), results(exact, opCase.run), 1e-12);
  });
});

describe.skipIf(nativeEngines.length === 0).each(nativeEngines.map((engine) => [engine.isa, engine] as const))("native %s equals the reference, on one thread and two", (_, engine) => {
  it.each(byName([...smallOpCases, ...attentionOpCases]))("%s", (__, opCase) => {
    engine.threads = 2;
    const two = results(engine, opCase.run);
    expectClose(two, expectedOf(opCase), 1e-10);
    engine.threads = 1;
    const one = results(engine, opCase.run);
    expect(one.map((values, i) => sameBits(values, two[i]))).toEqual(one.map(() => true));
  });
});
