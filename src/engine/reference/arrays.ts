import { check } from "../../errors.js";
import type { Tensor } from "../../tensor/tensor.js";

/** Elements of a floating-point tensor of the reference engine; a store into a Float32Array rounds. */
export type Floats = Float32Array | Float64Array;

export function floats(t: Tensor): Floats {
  const { storage } = t;
  check(
    storage instanceof Float32Array || storage instanceof Float64Array,
    "ERR_SWITCHYARD_DTYPE",
    () => `reference engine: expected a floating-point tensor of this engine, got ${t}`,
  );
  return storage;
}

export function ints(t: Tensor): Int32Array {
  const { storage } = t;
  check(storage instanceof Int32Array, "ERR_SWITCHYARD_DTYPE", () => `reference engine: expected an i32 tensor of this engine, got ${t}`);
  return storage;
}

/** An array of the same element type as `like`. */
export function scratch(like: Floats, length: number): Floats {
  return like instanceof Float32Array ? new Float32Array(length) : new Float64Array(length);
}

/** The elements of an index tensor, all from `least` to `limit` - 1; negative ones mean "none" to most ops. */
export function indices(op: string, t: Tensor, limit: number, least = -Infinity): Int32Array {
  const values = ints(t);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    check(
      value >= least && value < limit,
      "ERR_SWITCHYARD_ENGINE",
      () => `${op}: expected indices from ${least} to ${limit - 1}, got ${value} at element ${i} of ${t}`,
    );
  }
  return values;
}

/** The elements of an i32 [E+1] tensor of row offsets: rising from at least 0 to at most `rows`. */
export function groupOffsets(op: string, t: Tensor, rows: number): Int32Array {
  const values = ints(t);
  let previous = 0;
  for (const value of values) {
    check(
      value >= previous && value <= rows,
      "ERR_SWITCHYARD_ENGINE",
      () => `${op}: expected offsets rising from 0 to at most ${rows}, got ${value} after ${previous}`,
    );
    previous = value;
  }
  return values;
}
