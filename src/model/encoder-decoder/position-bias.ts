import type { Tape } from "../../autograd/tape.js";
import type { Tensor } from "../../tensor/tensor.js";

/**
 * The bucket of a distance key - query (Raffel et al. 2020): half of the buckets hold one distance each, the others grow with its logarithm up to
 * maxDistance. Both directions share the buckets; in a decoder, which sees none after it, later keys count as distance 0.
 * The logarithm is taken in f32, as everyone does, so that distances at a bucket's edge fall on the same side.
 */
export function distanceBucket(distance: number, bothWays: boolean, buckets: number, maxDistance: number): number {
  const count = bothWays ? buckets / 2 : buckets;
  const first = bothWays && distance > 0 ? count : 0;
  const far = bothWays ? Math.abs(distance) : Math.max(-distance, 0);
  const exact = count / 2;
  if (far < exact) return first + far;
  const f = Math.fround;
  const share = f(f(Math.log(f(far / exact))) / f(Math.log(maxDistance / exact)));
  return first + Math.min(count - 1, exact + Math.trunc(f(share * (count - exact))));
}

interface BiasedPositions {
  /** [buckets, H]: what each bucket adds to the scores of each head. */
  table: Tensor;
  bothWays: boolean;
  maxDistance: number;
  queries: number;
  /** Keys 0 to keys - 1; the queries are the last of them. */
  keys: number;
}

/** [1, H, queries, keys]: the attention bias of every pair of positions. */
export function positionBias(tape: Tape, { table, bothWays, maxDistance, queries, keys }: BiasedPositions): Tensor {
  const [buckets, H] = [table.rows, table.cols];
  const values = tape.engine.read(table);
  // Distance d stands at d + keys - 1.
  const bucketOf = Array.from({ length: 2 * keys - 1 }, (_, i) => distanceBucket(i - keys + 1, bothWays, buckets, maxDistance));
  const bias = new Float32Array(H * queries * keys);
  for (let h = 0; h < H; h++) {
    for (let i = 0; i < queries; i++) {
      const at = (h * queries + i) * keys;
      const position = keys - queries + i;
      for (let j = 0; j < keys; j++) bias[at + j] = values[(bucketOf[j - position + keys - 1] as number) * H + h] as number;
    }
  }
  return tape.constant([1, H, queries, keys], bias);
}
