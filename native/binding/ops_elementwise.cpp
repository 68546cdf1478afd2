// Elementwise functions, sums, softmax, random numbers and the optimiser.
#include <math.h>

#include "binding.h"

namespace sw {
namespace {

constexpr int64_t kMostElements = 1LL << 40;
constexpr int64_t kMostSeed = (1LL << 53) - 1;

// unary(isa, fn, out, x, n)
void op_unary(Args& args, const KernelTable& kernels) {
  const UnaryFn fn = (UnaryFn)args.integer(1, "fn", kNeg, kNormalCdf);
  const int64_t n = args.integer(4, "n", 0, kMostElements);
  float* out = args.out<float>(2, "out", n);
  const float* x = args.in<float>(3, "x", n);
  if (args.ok()) kernels.unary(fn, out, x, n);
}

// unaryBackward(isa, fn, dx, dout, x, n, accumulate)
void op_unary_backward(Args& args, const KernelTable& kernels) {
  const UnaryFn fn = (UnaryFn)args.integer(1, "fn", kNeg, kNormalCdf);
  const int64_t n = args.integer(5, "n", 0, kMostElements);
  float* dx = args.out<float>(2, "dx", n);
  const float* dout = args.in<float>(3, "dout", n);
  const float* x = args.in<float>(4, "x", n);
  if (args.ok()) kernels.unary_backward(fn, dx, dout, x, n, args.flag(6));
}

// binary(isa, fn, out, a, b, rows, cols, sizeOfB, rowStep, columnStep)
void op_binary(Args& args, const KernelTable& kernels) {
  Binary p = {};
  p.fn = (BinaryFn)args.integer(1, "fn", kAdd, kDiv);
  p.rows = args.integer(5, "rows", 0, kMostElements), p.cols = args.integer(6, "cols", 0, kMostElements);
  const int64_t n = product(p.rows, p.cols), size = args.integer(7, "size of b", 0, kMostElements);
  p.row_step = args.integer(8, "rowStep", 0, p.cols > 1 ? p.cols : 1), p.column_step = args.integer(9, "columnStep", 0, 1);
  p.out = args.out<float>(2, "out", n);
  p.a = args.in<float>(3, "a", n);
  p.b = args.in<float>(4, "b", size);
  if (!args.ok() || n == 0) return;
  if ((p.rows - 1) * p.row_step + (p.cols - 1) * p.column_step >= size) args.fail("b has %lld elements, too few for these steps", (long long)size);
  if (args.ok()) kernels.binary(p);
}

// scale(isa, out, x, factor, n, accumulate)
void op_scale(Args& args, const KernelTable& kernels) {
  const int64_t n = args.integer(4, "n", 0, kMostElements);
  float* out = args.out<float>(1, "out", n);
  const float* x = args.in<float>(2, "x", n);
  if (args.ok()) kernels.scale(out, x, (float)args.number(3), n, args.flag(5));
}

// sum(isa, over, out, x, rows, cols, accumulate)
void op_sum(Args& args, const KernelTable& kernels) {
  const SumOver over = (SumOver)args.integer(1, "over", kRows, kAll);
  const int64_t rows = args.integer(4, "rows", 0, kMostElements), cols = args.integer(5, "cols", 0, kMostElements);
  float* out = args.out<float>(2, "out", over == kRows ? rows : over == kColumns ? cols : 1);
  const float* x = args.in<float>(3, "x", product(rows, cols));
  if (args.ok()) kernels.sum(over, out, x, rows, cols, args.flag(6));
}

// softmax(isa, out, x, rows, cols)
void op_softmax(Args& args, const KernelTable& kernels) {
  const int64_t rows = args.dim(3, "rows"), cols = args.dim(4, "cols");
  float* out = args.out<float>(1, "out", product(rows, cols));
  const float* x = args.in<float>(2, "x", product(rows, cols));
  if (args.ok()) kernels.softmax(out, x, rows, cols);
}

// softmaxBackward(isa, dx, dout, out, rows, cols, accumulate)
void op_softmax_backward(Args& args, const KernelTable& kernels) {
  const int64_t rows = args.dim(4, "rows"), cols = args.dim(5, "cols");
  float* dx = args.out<float>(1, "dx", product(rows, cols));
  const float* dout = args.in<float>(2, "dout", product(rows, cols));
  const float* out = args.in<float>(3, "out", product(rows, cols));
  if (args.ok()) kernels.softmax_backward(dx, dout, out, rows, cols, args.flag(6));
}

// logSumExp(isa, out, x, rows, cols)
void op_log_sum_exp(Args& args, const KernelTable& kernels) {
  const int64_t rows = args.dim(3, "rows"), cols = args.dim(4, "cols");
  float* out = args.out<float>(1, "out", rows);
  const float* x = args.in<float>(2, "x", product(rows, cols));
  if (args.ok()) kernels.log_sum_exp(out, x, rows, cols);
}

// logSumExpBackward(isa, dx, dout, x, rows, cols, accumulate)
void op_log_sum_exp_backward(Args& args, const KernelTable& kernels) {
  const int64_t rows = args.dim(4, "rows"), cols = args.dim(5, "cols");
  float* dx = args.out<float>(1, "dx", product(rows, cols));
  const float* dout = args.in<float>(2, "dout", rows);
  const float* x = args.in<float>(3, "x", product(rows, cols));
  if (args.ok()) kernels.log_sum_exp_backward(dx, dout, x, rows, cols, args.flag(6));
}

// dropout(isa, out, x, n, rate, seed)
void op_dropout(Args& args, const KernelTable& kernels) {
  const int64_t n = args.integer(3, "n", 0, kMostElements), seed = args.integer(5, "seed", 0, kMostSeed);
  const double rate = args.number(4);
  float* out = args.out<float>(1, "out", n);
  const float* x = args.in<float>(2, "x", n);
  if (!(rate >= 0 && rate < 1)) args.fail("rate must lie in [0, 1), got %g", rate);
  if (args.ok()) kernels.dropout(out, x, n, (int32_t)ceil(rate * (1 << 24)), (float)(1 / (1 - rate)), seed);
}

// uniform(isa, out, n, low, high, seed)
void op_uniform(Args& args, const KernelTable& kernels) {
  const int64_t n = args.integer(2, "n", 0, kMostElements), seed = args.integer(5, "seed", 0, kMostSeed);
  float* out = args.out<float>(1, "out", n);
  if (args.ok()) kernels.uniform(out, n, (float)args.number(3), (float)args.number(4), seed);
}

// normal(isa, out, n, std, seed)
void op_normal(Args& args, const KernelTable& kernels) {
  const int64_t n = args.integer(2, "n", 0, kMostElements), seed = args.integer(4, "seed", 0, kMostSeed);
  float* out = args.out<float>(1, "out", n);
  if (args.ok()) kernels.normal(out, n, (float)args.number(3), seed);
}

// adamW(isa, param, grad, m, v, n, learningRate, beta1, beta2, eps, weightDecay, step, gradScale)
void op_adam_w(Args& args, const KernelTable& kernels) {
  const AdamW p = adam_w_arguments(args, 1);
  if (args.ok()) kernels.adam_w(p);
}

// sumSquares(isa, x, n): the sum
napi_value op_sum_squares(napi_env env, napi_callback_info info) {
  Args args(env, info, "sumSquares", 3);
  const KernelTable& kernels = args.kernels();
  const int64_t n = args.integer(2, "n", 0, kMostElements);
  const float* x = args.in<float>(1, "x", n);
  return args.ok() ? to_number(env, kernels.sum_squares(x, n)) : nullptr;
}

const NumericOp ops[] = {
    {"unary", op_unary, 5}, {"unaryBackward", op_unary_backward, 7}, {"binary", op_binary, 10}, {"scale", op_scale, 6}, {"sum", op_sum, 7},
    {"softmax", op_softmax, 5}, {"softmaxBackward", op_softmax_backward, 7}, {"logSumExp", op_log_sum_exp, 5}, {"logSumExpBackward", op_log_sum_exp_backward, 7},
    {"dropout", op_dropout, 6}, {"uniform", op_uniform, 6}, {"normal", op_normal, 5}, {"adamW", op_adam_w, 13},
};
const Op measures[] = {{"sumSquares", op_sum_squares}};

}  // namespace

AdamW adam_w_arguments(Args& args, int i) {
  AdamW p = {};
  p.n = args.integer(i + 4, "n", 0, kMostElements);
  p.param = args.out<float>(i, "param", p.n);
  p.grad = args.in<float>(i + 1, "grad", p.n);
  p.m = args.out<float>(i + 2, "m", p.n);
  p.v = args.out<float>(i + 3, "v", p.n);
  const double rate = args.number(i + 5), beta1 = args.number(i + 6), beta2 = args.number(i + 7), step = args.number(i + 10);
  p.beta1 = (float)beta1, p.beta2 = (float)beta2, p.rest1 = (float)(1 - beta1), p.rest2 = (float)(1 - beta2);
  p.eps = (float)args.number(i + 8), p.grad_scale = (float)args.number(i + 11);
  p.decay = (float)(1 - rate * args.number(i + 9));
  p.step_size = (float)(rate / (1 - pow(beta1, step)));
  p.correction2 = (float)(1 / sqrt(1 - pow(beta2, step)));
  return p;
}

void export_elementwise_ops(napi_env env, napi_value exports) {
  export_ops(env, exports, ops);
  export_ops(env, exports, measures);
}

}  // namespace sw
