// The kernels' interface: plain functions over raw pointers that check nothing, one table of them per instruction set.
// Dimension letters as in src/engine/engine.ts.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../core/cpu.h"
#include "mixers.h"
#include "ops.h"
#include "stored.h"

namespace sw {

enum MatmulForm { kNT, kNN, kTN };

// One product per group, or a single one when `offsets_E` is null.
// nt: out[m,n] = a[m,k] b[n,k]^T; nn: out[m,n] = a[m,k] b[k,n]; tn: out[m,n] = a[k,m]^T b[k,n].
// With groups, m (nt, nn) or k (tn) is the ragged dimension: group e has its rows [offsets[e], offsets[e+1]), and b (nt, nn) or
// out (tn) is the e-th of E matrices. rows_a and rows_b say where row i of a ragged operand really is.
struct Matmul {
  MatmulForm form;
  bool accumulate, bf16, f64;  // f64: one product of floats in form nt
  int64_t m, n, k;
  float* out;
  int64_t ld_out;  // distance between rows of out
  const float* a;
  int64_t rows;  // that `a` has
  StoredType type;  // of b; other than f32 in form nt only
  const void* b;
  const double* b_E;  // addresses of the E matrices, negated while they are being read; or null: they follow each other at b
  int only;           // of the groups with addresses 1: those with positive ones, -1: with negative ones, 0: all
  int64_t groups;
  const int32_t *offsets_E, *rows_a, *rows_b;
  const AdamW* update;   // of b, its param: made before b is read; null: none. One b in form nt, no lists
  double* squares;        // tn, not accumulated: where the sum of squares of all of out goes; null: nowhere
  const Matmul* beside;  // computed with this one, if not null: the same but for out, ld_out, n and b; form nt
};

struct Attention {
  int64_t batch, queries, keys, key_stride, heads, kv_heads, head_dim, value_dim;
  int64_t value_stride;  // floats or halves from one row of v to the next
  float scale;
  bool causal, f64;  // f64: q.k of floats is summed in double precision
  int64_t window, chunk;  // 0: none
  const float* q;
  StoredType type;  // of k and v: kFloat or kHalf
  const void *k, *v;
  const float *sinks_H, *bias;        // null: none
  int64_t bias_batch, bias_head;  // floats from one sequence's or head's sheet of the bias to the next; 0: shared
  float *out, *lse;
  // Backward only.
  const float* dout;
  float *dq, *dk, *dv, *dsinks_H;
};

// Operands of f32, bfloat16 pairs where the CPU has them, bytes.
enum Peak { kF32Peak, kBf16Peak, kInt8Peak };

struct KernelTable {
  const char* name;
  void (*matmul)(const Matmul&);
  void (*attention)(const Attention&);
  void (*attention_backward)(const Attention&);
  void (*norm)(const Norm&);
  void (*norm_backward)(const Norm&);
  void (*rope)(const Rope&);
  void (*glu)(const Glu&);
  void (*causal_conv)(const CausalConv&);
  void (*linear_attention)(const LinearAttention&);
  void (*delta_decays)(const DeltaDecays&);
  void (*selective_scan)(const SelectiveScan&);
  void (*lightning_indexer)(const LightningIndexer&);
  void (*gather_rows)(float* out, const void* table, StoredType type, const int32_t* rows, int64_t m, int64_t cols);
  void (*narrow)(uint16_t* out, const float* x, int64_t n);
  void (*scatter_add_rows)(float* dtable, const float* dout, const int32_t* rows, int64_t m, int64_t cols);
  void (*combine_rows)(float* out, const float* y, const int32_t* positions_TK, const float* weights_TK, int64_t tokens, int64_t k, int64_t cols, bool accumulate);
  void (*softmax)(float* out, const float* x, int64_t rows, int64_t cols);
  void (*softmax_backward)(float* dx, const float* dout, const float* out, int64_t rows, int64_t cols, bool accumulate);
  void (*log_sum_exp)(float* out, const float* x, int64_t rows, int64_t cols);
  void (*log_sum_exp_backward)(float* dx, const float* dout, const float* x, int64_t rows, int64_t cols, bool accumulate);
  void (*cross_entropy)(float* losses, const float* logits, const int32_t* targets, int64_t tokens, int64_t vocab);
  void (*cross_entropy_backward)(float* dlogits, const float* dlosses, const float* logits, const int32_t* targets, int64_t tokens, int64_t vocab);
  void (*top_k)(const TopK&);
  void (*gather_columns)(float* out, const float* x, const int32_t* columns_TK, int64_t tokens, int64_t k, int64_t cols);
  void (*scatter_columns)(float* dx, const float* dout, const int32_t* columns_TK, int64_t tokens, int64_t k, int64_t cols, bool accumulate);
  void (*sort_by_expert)(const SortByExpert&);
  void (*unary)(UnaryFn fn, float* out, const float* x, int64_t n);
  void (*unary_backward)(UnaryFn fn, float* dx, const float* dout, const float* x, int64_t n, bool accumulate);
  void (*binary)(const Binary&);
  void (*scale)(float* out, const float* x, float factor, int64_t n, bool accumulate);
  void (*sum)(SumOver over, float* out, const float* x, int64_t rows, int64_t cols, bool accumulate);
  void (*dropout)(float* out, const float* x, int64_t n, int32_t threshold, float factor, uint64_t seed);
  void (*uniform)(float* out, int64_t n, float low, float high, uint64_t seed);
  void (*normal)(float* out, int64_t n, float std, uint64_t seed);
  void (*adam_w)(const AdamW&);
  double (*sum_squares)(const float* x, int64_t n);
  // Runs independent multiply-adds on the calling thread; returns operations done.
  double (*peak)(int64_t iterations, Peak of);
};

extern const KernelTable kernels_x86_64, kernels_avx2, kernels_avx512, kernels_avx512_bf16;

}  // namespace sw
