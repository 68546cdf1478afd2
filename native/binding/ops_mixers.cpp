// Sequence mixers with a state, and the choice of keys for sparse attention.
#include "binding.h"

namespace sw {
namespace {

// causalConv(isa, out, state, x, weight, bias or 0, batch, length, channels, kernel)
void op_causal_conv(Args& args, const KernelTable& kernels) {
  CausalConv p = {};
  p.batch = args.dim(6, "batch"), p.length = args.dim(7, "length"), p.channels = args.dim(8, "channels");
  p.kernel = args.integer(9, "kernel", 1, INT32_MAX);
  const int64_t size = product(p.batch, p.length, p.channels);
  p.out = args.out<float>(1, "out", size);
  p.state = args.out<float>(2, "state", product(p.batch, p.kernel - 1, p.channels));
  p.x = args.in<float>(3, "x", size);
  p.weight = args.in<float>(4, "weight", product(p.channels, p.kernel));
  p.bias = args.in_or_null<float>(5, "bias", p.channels);
  if (args.ok()) kernels.causal_conv(p);
}

// linearAttention(isa, out, state, qkv, decay, beta or 0, batch, length, heads, keyHeads, keyDim, valueDim, scale, normalise, normEps,
// decayPerToken)
void op_linear_attention(Args& args, const KernelTable& kernels) {
  LinearAttention p = {};
  p.batch = args.dim(6, "batch"), p.length = args.dim(7, "length"), p.heads = args.dim(8, "heads");
  p.key_heads = args.integer(9, "keyHeads", 1, INT32_MAX), p.key_dim = args.dim(10, "keyDim"), p.value_dim = args.dim(11, "valueDim");
  p.scale = (float)args.number(12), p.normalise = args.flag(13), p.norm_eps = (float)args.number(14), p.decay_per_token = args.flag(15);
  if (p.key_heads > 0 && p.heads % p.key_heads != 0) args.fail("heads (%lld) must be a multiple of keyHeads (%lld)", (long long)p.heads, (long long)p.key_heads);
  const int64_t tokens = product(p.batch, p.length), keys = product(tokens, p.key_heads, p.key_dim), values = product(tokens, p.heads, p.value_dim);
  if (keys > INT64_MAX / 8 || values > INT64_MAX / 8) args.fail("the dimensions are too large");
  p.out = args.out<float>(1, "out", values);
  p.state = args.out<float>(2, "state", product(p.batch, p.heads, p.key_dim, p.value_dim));
  p.qkv = args.in<float>(3, "qkv", args.ok() ? 2 * keys + values : 0);
  p.decay = args.in<float>(4, "decay", p.decay_per_token ? product(tokens, p.heads) : p.heads);
  p.beta = args.in_or_null<float>(5, "beta", product(tokens, p.heads));
  if (args.ok()) kernels.linear_attention(p);
}

// deltaDecays(isa, out, state, step, bias, logRate, batch, length, heads, chunk)
void op_delta_decays(Args& args, const KernelTable& kernels) {
  DeltaDecays p = {};
  p.batch = args.dim(6, "batch"), p.length = args.dim(7, "length"), p.heads = args.dim(8, "heads"), p.chunk = args.integer(9, "chunk", 1, 1 << 24);
  const int64_t size = product(p.batch, p.length, p.heads);
  p.out = args.out<float>(1, "out", size);
  p.state = args.out<float>(2, "state", product(p.batch, 3, p.heads));
  p.step = args.in<float>(3, "step", size);
  p.bias = args.in<float>(4, "bias", p.heads);
  p.log_rate = args.in<float>(5, "logRate", p.heads);
  if (args.ok()) kernels.delta_decays(p);
}

// selectiveScan(isa, out, state, x, delta, a, b, c, d, batch, length, channels, states)
void op_selective_scan(Args& args, const KernelTable& kernels) {
  SelectiveScan p = {};
  p.batch = args.dim(9, "batch"), p.length = args.dim(10, "length"), p.channels = args.dim(11, "channels"), p.states = args.dim(12, "states");
  const int64_t size = product(p.batch, p.length, p.channels), mixed = product(p.batch, p.length, p.states);
  p.out = args.out<float>(1, "out", size);
  p.state = args.out<float>(2, "state", product(p.batch, p.states, p.channels));
  p.x = args.in<float>(3, "x", size);
  p.delta = args.in<float>(4, "delta", size);
  p.a = args.in<float>(5, "a", product(p.channels, p.states));
  p.b = args.in<float>(6, "b", mixed);
  p.c = args.in<float>(7, "c", mixed);
  p.d = args.in<float>(8, "d", p.channels);
  if (args.ok()) kernels.selective_scan(p);
}

// lightningIndexer(isa, bias, q, k, weights, batch, queries, keys, keyStride, heads, headDim, topK)
void op_lightning_indexer(Args& args, const KernelTable& kernels) {
  LightningIndexer p = {};
  p.batch = args.dim(5, "batch"), p.queries = args.dim(6, "queries");
  p.keys = args.integer(7, "keys", p.queries, INT32_MAX), p.key_stride = args.integer(8, "keyStride", p.keys, INT32_MAX);
  p.heads = args.dim(9, "heads"), p.head_dim = args.dim(10, "headDim"), p.top_k = args.integer(11, "topK", 1, INT32_MAX);
  const int64_t rows = product(p.batch, p.queries);
  p.bias = args.out<float>(1, "bias", product(rows, p.keys));
  p.q = args.in<float>(2, "q", product(rows, p.heads, p.head_dim));
  p.k = args.in<float>(3, "k", product(p.batch, p.key_stride, p.head_dim));
  p.weights = args.in<float>(4, "weights", product(rows, p.heads));
  if (args.ok()) kernels.lightning_indexer(p);
}

const NumericOp ops[] = {{"causalConv", op_causal_conv, 10}, {"linearAttention", op_linear_attention, 16}, {"deltaDecays", op_delta_decays, 10},
                  {"selectiveScan", op_selective_scan, 13}, {"lightningIndexer", op_lightning_indexer, 12}};

}  // namespace

void export_mixer_ops(napi_env env, napi_value exports) { export_ops(env, exports, ops); }

}  // namespace sw
