import { createRequire } from "node:module";
import { describe, it } from "vitest";
import { byteLength, type DType } from "../src/tensor/dtype.js";
import { Random } from "../src/tensor/random.js";
import { sizeOf, type Tensor, view } from "../src/tensor/tensor.js";
import type { Engine, Region } from "../src/engine/engine.js";
import type { NativeAddon } from "../src/engine/native-addon.js";
import { loadEngine } from "../src/engine/load.js";

/** Kernel variants of the native engine that this machine can run; none where there is no addon, which `doctor` explains. */
export const nativeVariants: string[] = (() => {
  const { name, source } = loadEngine();
  return name === "native" ? (createRequire(import.meta.url)(source) as NativeAddon).isas().filter((isa) => isa !== null) : [];
})();

/** A suite that needs the native engine: not even collected where there is none, which is the reason given. */
export function describeNative(title: string, suite: () => void): void {
  if (nativeVariants.length > 0) describe(title, suite);
  else it(title, ({ skip }) => skip("needs the native engine"));
}

/** The same for each of its kernel variants. */
export function describeVariants(title: string, suite: (isa: string) => void): void {
  describeNative(title, () => describe.each(nativeVariants)("%s", suite));
}

/** Tensors with seeded values in [-1, 1), the same on every engine; freed together. */
export class TestTensors {
  private readonly regions: Region[] = [];
  private readonly rng: Random;

  constructor(
    private readonly engine: Engine,
    seed: number,
  ) {
    this.rng = new Random(seed);
  }

  of(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
    const region = this.engine.allocate(byteLength(dtype, sizeOf(shape)));
    this.regions.push(region);
    const t = region.tensor(dtype, shape, 0);
    this.engine.write(t, values);
    return t;
  }

  random(shape: readonly number[]): Tensor {
    return this.of("f32", shape, Float32Array.from({ length: sizeOf(shape) }, () => this.rng.float() * 2 - 1));
  }

  ints(values: readonly number[]): Tensor {
    return this.of("i32", [values.length], values);
  }

  [Symbol.dispose](): void {
    for (const region of this.regions) region.free();
  }
}

/** Row `i` of a matrix, as a matrix of one row. */
export const rowOf = (t: Tensor, i: number): Tensor => view(t, [1, t.cols], i * t.cols);

/**
 * Mean squared difference over mean square of the expected values, or of the `terms` that they are differences of, where those all but cancel.
 * Values are of the order of 1: against less than 1e-4 in all, errors count as absolute.
 */
export function nmse(got: ArrayLike<number>, expected: ArrayLike<number>, terms = expected): number {
  let error = 0;
  let power = 1e-4;
  for (let i = 0; i < expected.length; i++) {
    if (got[i] === expected[i] && !Number.isFinite(expected[i])) continue;
    error += (got[i] - expected[i]) ** 2;
    power += terms[i] ** 2;
  }
  return error / power;
}

export function sameBits(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && Array.from(a).every((x, i) => Object.is(x, b[i]));
}
