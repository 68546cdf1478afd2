import type { Tape } from "../autograd/tape.js";
import { add, gatherRows, layerNorm, linear, mul, reshape, rmsNorm, rope, type RopePlaces, scale } from "../ops/index.js";
import { type Tensor, view } from "../tensor/tensor.js";
import { attendOver, type Index } from "./attention.js";
import type { LatentAttentionConfig, LatentSizes, ModelConfig } from "./config.js";
import type { Mixer, MixerParameter } from "./mixer.js";
import type { Parameters } from "./parameters.js";
import type { Sequences } from "./sequences.js";
import type { TransformerParts } from "./transformer.js";

/**
 * Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434). A token's keys and values come from one short vector, but for the
 * rotated part of the keys, which all heads share: both are the state, [capacity, rank + rotated], smaller than keys and values of all heads by
 * one or two orders of magnitude. (W k) . q = k . (W^T q), so queries are brought down to the short vectors instead of those up to the heads, all
 * heads attend to one key per token, and what they see of the short vectors is brought up to values. Only training makes keys and values.
 */
export const latentAttention: Mixer = {
  parameters: latentParameters,
  state(config, l, capacity) {
    const { index } = config.mixers[l] as LatentAttentionConfig;
    const { rank, unrotated } = sizesOf(config);
    const kept = [capacity, rank + config.headDim - unrotated];
    return index === undefined ? [kept] : [kept, [capacity, index.headDim]];
  },
  keys: 1,
  rewinds: true,
  holds(config, l) {
    const { index } = config.mixers[l] as LatentAttentionConfig;
    return { upTo: index === undefined || index.heads >= tieless ? undefined : index.topK };
  },
  forward: attendLatent,
};

type IndexSizes = NonNullable<LatentAttentionConfig["index"]>;

/**
 * With fewer heads than these many keys have exactly the score 0 for all of them, and which of those are kept depends on the number of keys in
 * the call (lightningIndexer), once there are more than are kept: to choose as the reference does, a sequence that long is run from its start for every token.
 */
const tieless = 16;

const sizesOf = ({ latent }: ModelConfig): LatentSizes => latent as LatentSizes;

function latentParameters(config: ModelConfig, l: number): MixerParameter[] {
  const { width, heads, headDim, qkvBias, outputBias } = config;
  const { queryRank, rank, unrotated, value } = sizesOf(config);
  const { index } = config.mixers[l] as LatentAttentionConfig;
  const queries: MixerParameter[] =
    queryRank === undefined
      ? [{ name: "q", shape: [heads * headDim, width], init: "normal" }]
      : [
          { name: "qDown", shape: [queryRank, width], init: "normal", bias: qkvBias },
          { name: "qDownNorm", shape: [queryRank], init: "one" },
          { name: "qUp", shape: [heads * headDim, queryRank], init: "normal" },
        ];
  const indexer: MixerParameter[] =
    index === undefined
      ? []
      : [
          { name: "indexQ", shape: [index.heads * index.headDim, queryRank as number], init: "normal" },
          { name: "indexK", shape: [index.headDim, width], init: "normal" },
          { name: "indexKNorm", shape: [index.headDim], init: "one", bias: true },
          { name: "indexWeights", shape: [index.heads, width], init: "normal" },
        ];
  return [
    ...queries,
    { name: "kvDown", shape: [rank + headDim - unrotated, width], init: "normal", bias: qkvBias },
    { name: "kvDownNorm", shape: [rank], init: "one" },
    { name: "kvUp", shape: [heads * (unrotated + value), rank], init: "normal", apart: true },
    { name: "out", shape: [width, heads * value], init: "residual", bias: outputBias },
    ...indexer,
  ];
}

function attendLatent(tape: Tape, { config, parameters }: TransformerParts, l: number, x: Tensor, sequences: Sequences): Tensor {
  const { heads, headDim } = config;
  const { queryRank, rank, unrotated, value, normEps } = sizesOf(config);
  const layer = config.mixers[l] as LatentAttentionConfig;
  const { get, find, weight } = parameters.below(`layers.${l}.attention.`);
  const rotated = headDim - unrotated;
  const where = sequences.rope(layer.rope);
  const { interleaved = false } = config.ropes[layer.rope] ?? {};

  const shortQuery = queryRank === undefined ? undefined : rmsNorm(tape, linear(tape, x, weight("qDown"), find("qDownBias")), get("qDownNorm"), normEps);
  const query = shortQuery === undefined ? linear(tape, x, weight("q")) : linear(tape, shortQuery, weight("qUp"));
  const placed = rope(tape, query, where, { heads, headDim, first: unrotated, rotary: rotated, interleaved });
  const q = layer.temperature === undefined ? placed : mul(tape, placed, sequences.temperature(layer.temperature));

  const both = linear(tape, x, weight("kvDown"), find("kvDownBias"));
  const short = rmsNorm(tape, takeColumns(tape, sequences, both, [[0, rank]], 1), get("kvDownNorm"), normEps);
  const shared = rope(tape, takeColumns(tape, sequences, both, [[rank, rotated]], 1), where, { heads: 1, headDim: rotated, interleaved });
  const index = layer.index && indexOf(tape, layer.index, x, shortQuery as Tensor, parameters, l, where, rotated);
  const scaled = { heads, scale: config.attentionScale ?? 1 / Math.sqrt(headDim) };
  const columns = (y: Tensor, parts: Parts, times: number, stride: number) => takeColumns(tape, sequences, y, parts, times, stride);
  const attended = tape.recording ? overHeads() : overShortVectors();
  return linear(tape, attended, weight("out"), find("outBias"));

  function overHeads(): Tensor {
    const up = linear(tape, short, get("kvUp"));
    const k = add(tape, columns(up, [[0, unrotated], [-1, rotated]], heads, unrotated + value), columns(shared, [[-1, unrotated], [0, rotated]], heads, 0));
    const v = columns(up, [[unrotated, value]], heads, unrotated + value);
    return attendOver(tape, { q, k, v, index }, sequences, l, { ...scaled, kvHeads: heads, headDim, valueDim: value });
  }

  function overShortVectors(): Tensor {
    const { keys, values, form } = headMatrices(config, parameters, `layers.${l}.attention.kvUp`);
    const down = eachHead(tape, sequences, form, columns(q, [[0, unrotated]], heads, headDim), keys);
    const lowered = add(tape, columns(down, [[0, rank], [-1, rotated]], heads, rank), columns(q, [[-1, rank], [unrotated, rotated]], heads, headDim));
    const k = add(tape, columns(short, [[0, rank], [-1, rotated]], 1, 0), columns(shared, [[-1, rank], [0, rotated]], 1, 0));
    const seen = attendOver(tape, { q: lowered, k, v: k, index }, sequences, l, { ...scaled, kvHeads: 1, headDim: rank + rotated, valueDim: rank, valueStride: rank + rotated });
    return eachHead(tape, sequences, "nt", seen, values);
  }
}

/**
 * The up projection of each head: `keys` [unrotated, rank], or [rank, unrotated] where the file has them so, `form` being that of a query's product with
 * them; and `values` [value, rank].
 */
export function headMatrices({ heads, latent }: ModelConfig, parameters: Parameters, name: string): HeadMatrices {
  const [keys, values] = parameters.apart(name) ?? [];
  if (keys !== undefined && values !== undefined) return { keys, values, form: "nt" };
  const { rank, unrotated, value } = latent as LatentSizes;
  const up = parameters.get(name);
  let known = headsOf.get(up);
  if (known === undefined) {
    const rows = (first: number, count: number) => Array.from({ length: heads }, (_, h) => view(up, [count, rank], (h * (unrotated + value) + first) * rank));
    headsOf.set(up, (known = { keys: rows(0, unrotated), values: rows(unrotated, value), form: "nn" }));
  }
  return known;
}

interface HeadMatrices {
  keys: readonly Tensor[];
  values: readonly Tensor[];
  form: "nn" | "nt";
}

/** Made once: products remember lists of matrices. */
const headsOf = new WeakMap<Tensor, HeadMatrices>();

/** x [T, heads * K] times the matrix of each head: [T, heads * N]. */
function eachHead(tape: Tape, sequences: Sequences, form: "nn" | "nt", x: Tensor, matrices: readonly Tensor[]): Tensor {
  const heads = matrices.length;
  const [tokens, k] = [x.rows, x.cols / heads];
  const [first] = matrices as [Tensor];
  const n = form === "nn" ? first.cols : first.rows;
  const constant = (name: string, length: number, value: (i: number) => number) =>
    sequences.memo(`${name} of ${heads} heads`, () => tape.constant([length], Int32Array.from({ length }, (_, i) => value(i)), "i32"));
  const offsets = constant("offsets", heads + 1, (h) => h * tokens);
  const rowsA = constant("rows", heads * tokens, (i) => (i % tokens) * heads + Math.floor(i / tokens));
  const back = constant("places", heads * tokens, (i) => (i % heads) * tokens + Math.floor(i / heads));
  const y = tape.alloc([heads * tokens, n]);
  tape.engine.groupedMatmul(form, y, reshape(tape, x, [tokens * heads, k]), matrices, offsets, { rowsA, precision: tape.precision });
  tape.flops += 2 * tokens * heads * k * n;
  return reshape(tape, gatherRows(tape, y, back), [tokens, heads * n]);
}

/** Of the norm of the indexer's keys. */
const indexNormEps = 1e-6;

/** What the lightning indexer compares: queries from the short vector, one key per token, a weight of each head. Both are rotated half against half. */
function indexOf(tape: Tape, { heads, headDim, topK }: IndexSizes, x: Tensor, shortQuery: Tensor, parameters: Parameters, l: number, where: RopePlaces, rotary: number): Index {
  const { get, weight } = parameters.below(`layers.${l}.attention.index`);
  const keys = layerNorm(tape, linear(tape, x, weight("K")), get("KNorm"), get("KNormBias"), indexNormEps);
  return {
    q: rope(tape, linear(tape, shortQuery, weight("Q")), where, { heads, headDim, rotary }),
    k: rope(tape, keys, where, { heads: 1, headDim, rotary }),
    weights: scale(tape, linear(tape, x, weight("Weights")), 1 / Math.sqrt(heads * headDim)),
    dims: { heads, headDim, topK },
  };
}

type Parts = readonly (readonly [first: number, length: number])[];

/**
 * Of each row of `x` the `parts` [first column, length], side by side, for each of `heads`, whose columns begin `stride` further each: rows of
 * blocks as large as the parts allow are gathered. A first column of -1 gives zeros.
 */
function takeColumns(tape: Tape, sequences: Sequences, x: Tensor, parts: Parts, heads: number, stride = 0): Tensor {
  const block = parts.flat().reduce((a, b) => (b < 0 ? a : gcd(a, b)), gcd(x.cols, stride));
  const perRow = x.cols / block;
  const oneHead = parts.flatMap(([first, length]) => Array.from({ length: length / block }, (_, i) => (first < 0 ? -1 : first / block + i)));
  const width = heads * oneHead.length;
  const index = sequences.memo(`columns ${x.cols} ${parts.join(" ")} ${heads} ${stride}`, () => {
    const columns = Array.from({ length: heads }, (_, h) => oneHead.map((column) => (column < 0 ? -1 : column + (h * stride) / block))).flat();
    const rows = new Int32Array(x.rows * width);
    for (let t = 0; t < x.rows; t++) columns.forEach((column, i) => (rows[t * width + i] = column < 0 ? -1 : t * perRow + column));
    return tape.constant([rows.length], rows, "i32");
  });
  const y = gatherRows(tape, reshape(tape, x, [x.rows * perRow, block]), index);
  return reshape(tape, y, [x.rows, width * block]);
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
