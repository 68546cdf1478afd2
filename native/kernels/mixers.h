// Parameters of the sequence mixers; shapes as in src/engine/mixer-ops.ts, length = tokens of each sequence.
#pragma once

#include <stdint.h>

namespace sw {

struct CausalConv {
  int64_t batch, length, channels, kernel;
  float *out, *state;
  const float *x, *weight, *bias;
};

struct LinearAttention {
  int64_t batch, length, heads, key_heads, key_dim, value_dim;
  float scale;
  bool normalise;
  float norm_eps;
  float *out, *state;
  const float *qkv, *decay, *beta;
  bool decay_per_token;
};

struct DeltaDecays {
  int64_t batch, length, heads, chunk;
  float *out, *state;
  const float *step, *bias, *log_rate;
};

struct SelectiveScan {
  int64_t batch, length, channels, states;
  float *out, *state;
  const float *x, *delta, *a, *b, *c, *d;
};

struct LightningIndexer {
  int64_t batch, queries, keys, key_stride, heads, head_dim, top_k;
  float* bias;
  const float *q, *k, *weights;
};

}  // namespace sw
