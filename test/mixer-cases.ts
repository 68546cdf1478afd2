/** Cases of the sequence mixers. */
import type { OpCase } from "./op-maker.js";

/** batch, length, channels, kernel */
const convolutions = [[1, 1, 1, 1], [1, 0, 5, 4], [2, 2, 3, 4], [3, 9, 33, 3], [1, 40, 400, 4]] as const;

/** batch, length, key heads, heads, keyDim, valueDim */
const attentions = [[1, 1, 1, 1, 1, 1], [2, 3, 1, 2, 5, 7], [1, 20, 2, 4, 16, 16], [2, 9, 3, 3, 24, 70]] as const;

/** batch, length, heads, chunk */
const decays = [[1, 1, 1, 1], [1, 0, 5, 4], [2, 9, 3, 4], [3, 40, 33, 16], [2, 8, 4, 8]] as const;

/** batch, length, channels, states */
const scans = [[1, 1, 1, 1], [2, 3, 5, 7], [1, 0, 5, 2], [3, 30, 130, 16]] as const;

/** batch, queries, keys, heads, headDim, topK */
const indexers = [[1, 1, 1, 1, 1, 1], [2, 9, 9, 4, 8, 3], [2, 4, 37, 3, 20, 16], [1, 3, 1100, 2, 9, 700], [1, 40, 40, 8, 16, 64]] as const;

export const mixerOpCases: readonly OpCase[] = [
  ...convolutions.flatMap(([batch, length, channels, kernel]) =>
    [false, true].map((biased): OpCase => ({
      name: `causalConv ${[batch, length, channels, kernel].join(" ")} bias=${biased}`,
      run: (make) => {
        const shape = [batch * length, channels];
        const [out, state] = [make.floats(shape), make.floats([batch, kernel - 1, channels])];
        make.engine.causalConv(out, state, make.floats(shape), make.floats([channels, kernel]), biased ? make.floats([channels]) : undefined);
        return [out, state];
      },
    })),
  ),
  ...attentions.flatMap(([batch, length, keyHeads, heads, keyDim, valueDim]) =>
    [false, true].flatMap((delta) =>
      [undefined, 1e-6].map((normEps): OpCase => ({
        name: `linearAttention ${[batch, length, keyHeads, heads, keyDim, valueDim].join(" ")} delta=${delta} normEps=${normEps}`,
        run: (make) => {
          const T = batch * length;
          const [out, state] = [make.floats([T, heads * valueDim]), make.floats([batch, heads, keyDim, valueDim])];
          const qkv = make.floats([T, 2 * keyHeads * keyDim + heads * valueDim], -1 / Math.sqrt(keyDim), 1 / Math.sqrt(keyDim));
          const [decay, beta] = [make.floats(delta ? [T, heads] : [heads], 0.5, 1), delta ? make.floats([T, heads], 0, 1) : undefined];
          make.engine.linearAttention(out, state, qkv, decay, beta, { heads, keyHeads, keyDim, valueDim, scale: 0.7, normEps });
          return [out, state];
        },
      })),
    ),
  ),
  ...decays.map(([batch, length, heads, chunk]): OpCase => ({
    name: `deltaDecays ${[batch, length, heads, chunk].join(" ")}`,
    run: (make) => {
      const shape = [batch * length, heads];
      const [out, state] = [make.floats(shape), make.values("f", [batch, 3, heads], new Array(batch * 3 * heads).fill(0))];
      make.engine.deltaDecays(out, state, make.floats(shape, -8, 8), make.floats([heads], -1, 1), make.floats([heads], -3, 0), chunk);
      return [out, state];
    },
  })),
  ...scans.map(([batch, length, channels, states]): OpCase => ({
    name: `selectiveScan ${[batch, length, channels, states].join(" ")}`,
    run: (make) => {
      const shape = [batch * length, channels];
      const mixed = [batch * length, states];
      const [out, state, x] = [make.floats(shape), make.floats([batch, states, channels]), make.floats(shape)];
      const a = make.floats([channels, states], -3, -0.1);
      make.engine.selectiveScan(out, state, x, { delta: make.floats(shape, 0, 2), a, b: make.floats(mixed), c: make.floats(mixed), d: make.floats([channels]) });
      return [out, state];
    },
  })),
  ...indexers.map(([batch, queries, keys, heads, headDim, topK]): OpCase => ({
    name: `lightningIndexer ${[batch, queries, keys, heads, headDim, topK].join(" ")}`,
    run: (make) => {
      const keyStride = keys + 3;
      const [bias, q] = [make.floats([batch * queries, keys]), make.floats([batch * queries, heads * headDim])];
      const [k, weights] = [make.floats([batch * keyStride, headDim]), make.floats([batch * queries, heads])];
      make.engine.lightningIndexer(bias, q, k, weights, { batch, queries, keys, keyStride, heads, headDim, topK });
      return [make.values("i", bias.shape, Array.from(make.engine.read(bias), (x) => (x === 0 ? 1 : x === -Infinity ? 0 : -1)))];
    },
  })),
];
