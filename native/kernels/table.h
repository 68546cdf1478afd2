// The kernels' interface: plain functions over raw pointers that check nothing, one table of them per instruction set.
// Dimension letters as in src/engine/engine.ts.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../core/cpu.h"

namespace sw {

enum MatmulForm { kNT, kNN, kTN };

// One product per group, or a single one when `offsets_E` is null.
// nt: out[m,n] = a[m,k] b[n,k]^T; nn: out[m,n] = a[m,k] b[k,n]; tn: out[m,n] = a[k,m]^T b[k,n].
// With groups, m (nt, nn) or k (tn) is the ragged dimension: group e has its rows [offsets[e], offsets[e+1]), and b (nt, nn) or
// out (tn) is the e-th of E matrices. rows_a and rows_b say where row i of a ragged operand really is.
struct Matmul {
  MatmulForm form;
  bool accumulate, bf16;
  int64_t m, n, k;
  float* out;
  const float *a, *b;
  int64_t groups;
  const int32_t *offsets_E, *rows_a, *rows_b;
};

struct Attention {
  int64_t batch, queries, keys, key_stride, heads, kv_heads, head_dim;
  float scale;
  const float *q, *k, *v;
  float *out, *lse;
  // Backward only.
  const float* dout;
  float *dq, *dk, *dv;
};

struct KernelTable {
  const char* name;
  void (*matmul)(const Matmul&);
  void (*attention)(const Attention&);
  void (*attention_backward)(const Attention&);
  // Runs independent FMAs (bf16: bf16 dot products) on the calling thread; returns floating-point operations done.
  double (*peak)(int64_t iterations, bool bf16);
};

extern const KernelTable kernels_x86_64, kernels_avx2, kernels_avx512, kernels_avx512_bf16;

}  // namespace sw
