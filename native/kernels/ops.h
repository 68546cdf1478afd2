// Parameters of the row-wise and elementwise kernels. Enumerators stand in the order of the names in src/engine/native.ts.
#pragma once

#include <stdint.h>

namespace sw {

enum Activation { kSilu, kGelu, kGeluTanh, kQuickGelu, kRelu, kRelu2 };
enum UnaryFn { kNeg, kExp, kLog, kSqrt, kSquare, kSigmoid, kTanh, kSoftplus, kPositive, kNormalCdf };
enum BinaryFn { kAdd, kSub, kMul, kDiv };
enum SumOver { kRows, kColumns, kAll };

// Layer norm when centred, else RMS norm.
struct Norm {
  bool centred;
  int64_t rows, cols;
  float eps, offset;  // added to the weight
  const float *x, *weight, *bias;  // weight null: ones
  float* out;
  // Backward only; null for a gradient that is not wanted.
  const float* dout;
  float *dx, *dweight, *dbias;
  bool accumulate_dx, accumulate_dweight, accumulate_dbias;
};

struct Rope {
  int64_t tokens, heads, head_dim, first, rotary;  // elements [first, first + rotary) of each head turn
  bool interleaved, inverse;
  float* out;
  const float *x, *table;
  const int32_t* positions_T;
};

struct Glu {
  Activation activation;
  bool gated;
  bool scale_input;  // row_scale multiplies x instead of the result
  int64_t rows, width;
  float limit, up_offset;
  const float *x, *row_scale, *bias;
  const int32_t* offsets_E;  // rows of each group, which its row of the bias is for; null: one group
  float* out;
  // Backward only.
  const float* dout;
  float *dx, *drow_scale;
};

struct TopK {
  int64_t tokens, experts, k;
  int32_t* indices;
  const float *scores, *bias;
  int64_t groups, keep;  // groups = 0: no limit
  bool top2sum;
};

struct SortByExpert {
  int64_t tokens, k, experts, rows;
  int32_t *offsets_E, *slots_N, *tokens_N, *positions_TK;
  const int32_t* experts_TK;
};

// b advances by row_step per row of a and by column_step (0 or 1) per column.
struct Binary {
  BinaryFn fn;
  int64_t rows, cols, row_step, column_step;
  float* out;
  const float *a, *b;
};

struct AdamW {
  int64_t n;
  float *param, *m, *v;
  const float* grad;
  float beta1, beta2, eps, grad_scale;
  float rest1, rest2;  // 1 - beta1, 1 - beta2
  float decay;        // 1 - learning rate * weight decay
  float step_size;    // learning rate / (1 - beta1^step)
  float correction2;  // 1 / sqrt(1 - beta2^step)
};

}  // namespace sw
