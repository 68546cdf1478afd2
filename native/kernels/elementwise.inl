// Functions of one or two tensors element by element, and sums.

template <class F>
static void map_all(float* out, const float* x, int64_t n, int64_t grain, F f) {
  parallel_blocks(n, grain, [&](int64_t first, int64_t last) { map(out + first, x + first, last - first, f); });
}

static void unary(UnaryFn fn, float* out, const float* x, int64_t n) {
  switch (fn) {
    case kNeg: return map_all(out, x, n, kGrain, [](vf v) { return -v; });
    case kExp: return map_all(out, x, n, kHeavyGrain, [](vf v) { return vexp(v); });
    case kLog: return map_all(out, x, n, kHeavyGrain, [](vf v) { return vlog(v); });
    case kSqrt: return map_all(out, x, n, kHeavyGrain, [](vf v) { return vsqrt(v); });
    case kSquare: return map_all(out, x, n, kGrain, [](vf v) { return v * v; });
    case kSigmoid: return map_all(out, x, n, kHeavyGrain, [](vf v) { return vsigmoid(v); });
    case kTanh: return map_all(out, x, n, kHeavyGrain, [](vf v) { return vtanh(v); });
    case kSoftplus: return map_all(out, x, n, kHeavyGrain, [](vf v) { return vsoftplus(v); });
    case kPositive: return map_all(out, x, n, kGrain, [](vf v) { return select(v < 0, splat(0), v); });
    case kNormalCdf:
      return map_all(out, x, n, kHeavyGrain, [](vf v) {
        vf cdf, density;
        normal_cdf(v, &cdf, &density);
        return cdf;
      });
  }
}

template <class F>
static void chain_all(float* dx, const float* dout, const float* x, int64_t n, bool accumulate, F slope) {
  parallel_blocks(n, kHeavyGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      const vf value = load(dout + i, last - i) * slope(load(x + i, last - i, 1));
      store(dx + i, accumulate ? load(dx + i, last - i) + value : value, last - i);
    }
  });
}

static void unary_backward(UnaryFn fn, float* dx, const float* dout, const float* x, int64_t n, bool accumulate) {
  switch (fn) {
    case kNeg: return chain_all(dx, dout, x, n, accumulate, [](vf) { return splat(-1); });
    case kExp: return chain_all(dx, dout, x, n, accumulate, [](vf v) { return vexp(v); });
    case kLog: return chain_all(dx, dout, x, n, accumulate, [](vf v) { return 1.0f / v; });
    case kSqrt:
      return chain_all(dx, dout, x, n, accumulate, [](vf v) {
        const vf root = vsqrt(v), least = splat(1e-19f);  // finite: what it multiplies may be 0
        return 0.5f / (root < least ? least : root);
      });
    case kSquare: return chain_all(dx, dout, x, n, accumulate, [](vf v) { return 2.0f * v; });
    case kSigmoid: return chain_all(dx, dout, x, n, accumulate, [](vf v) { return vsigmoid(v) * vsigmoid(-v); });
    case kTanh:
      return chain_all(dx, dout, x, n, accumulate, [](vf v) {
        const vf e = vexp(-2.0f * vabs(v)), d = 1.0f + e;  // 1 - tanh^2 without cancellation
        return 4.0f * e / (d * d);
      });
    case kSoftplus: return chain_all(dx, dout, x, n, accumulate, [](vf v) { return vsigmoid(v); });
    case kPositive: return chain_all(dx, dout, x, n, accumulate, [](vf v) { return select(v > 0, splat(1), splat(0)); });
    case kNormalCdf:
      return chain_all(dx, dout, x, n, accumulate, [](vf v) {
        vf cdf, density;
        normal_cdf(v, &cdf, &density);
        return density;
      });
  }
}

template <class F>
static void binary_of(const Binary& p, F f) {
  // A b of a's size or of one element makes one long row, cut into blocks of columns.
  const bool flat = p.row_step == p.cols || (p.row_step == 0 && p.column_step == 0);
  const int64_t rows = flat ? 1 : p.rows, cols = flat ? p.rows * p.cols : p.cols;
  const auto run = [&](int64_t row, int64_t from, int64_t to) {
    float* out = p.out + row * cols;
    const float *a = p.a + row * cols, *b = p.b + (flat ? 0 : row * p.row_step);
    if (p.column_step) {
      for (int64_t i = from; i < to; i += kLanes) store(out + i, f(load(a + i, to - i), load(b + i, to - i, 1)), to - i);
    } else {
      const vf y = splat(*b);
      for (int64_t i = from; i < to; i += kLanes) store(out + i, f(load(a + i, to - i), y), to - i);
    }
  };
  if (rows == 1) return parallel_blocks(cols, kGrain, [&](int64_t first, int64_t last) { run(0, first, last); });
  parallel_blocks(rows, rows_per_task(kGrain, cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) run(row, 0, cols);
  });
}

static void binary(const Binary& p) {
  switch (p.fn) {
    case kAdd: return binary_of(p, [](vf a, vf b) { return a + b; });
    case kSub: return binary_of(p, [](vf a, vf b) { return a - b; });
    case kMul: return binary_of(p, [](vf a, vf b) { return a * b; });
    case kDiv: return binary_of(p, [](vf a, vf b) { return a / b; });
  }
}

static void scale(float* out, const float* x, float factor, int64_t n, bool accumulate) {
  parallel_blocks(n, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      const vf value = load(x + i, last - i) * factor;
      store(out + i, accumulate ? load(out + i, last - i) + value : value, last - i);
    }
  });
}

// Sum over all elements of x or of their squares, in f64: over blocks of kGrain elements, then over blocks in order.
template <bool kSquares>
static double total(const float* x, int64_t n) {
  const auto term = [](double value) { return kSquares ? value * value : value; };
  const int64_t blocks = (n + kGrain - 1) / kGrain;
  double* partial = (double*)scratch(0, blocks * sizeof(double));
  parallel_blocks(n, kGrain, [&](int64_t first, int64_t last) {
    double sums[kLanes] = {};
    int64_t i = first;
    for (; i + kLanes <= last; i += kLanes) {
      for (int j = 0; j < kLanes; j++) sums[j] += term(x[i + j]);
    }
    for (int j = 0; i < last; i++, j++) sums[j] += term(x[i]);
    double sum = 0;
    for (int j = 0; j < kLanes; j++) sum += sums[j];
    partial[first / kGrain] = sum;
  });
  double sum = 0;
  for (int64_t b = 0; b < blocks; b++) sum += partial[b];
  return sum;
}

static double sum_squares(const float* x, int64_t n) { return total<true>(x, n); }

static void sum_columns(float* out, const float* x, int64_t rows, int64_t cols, bool accumulate) {
  constexpr int64_t block = 64;
  const int64_t blocks = (rows + block - 1) / block;
  float* partial = (float*)scratch(0, blocks * cols * sizeof(float));
  parallel_blocks(rows, block, [&](int64_t first, int64_t last) {
    float* sums = partial + first / block * cols;
    memcpy(sums, x + first * cols, cols * sizeof(float));
    for (int64_t row = first + 1; row < last; row++) {
      for (int64_t i = 0; i < cols; i += kLanes) store(sums + i, load(sums + i, cols - i) + load(x + row * cols + i, cols - i), cols - i);
    }
  });
  add_blocks(out, partial, blocks, cols, cols, accumulate);
}

static void sum(SumOver over, float* out, const float* x, int64_t rows, int64_t cols, bool accumulate) {
  if (over == kColumns) return sum_columns(out, x, rows, cols, accumulate);
  if (over == kAll) {
    out[0] = (float)((accumulate ? out[0] : 0) + total<false>(x, rows * cols));
    return;
  }
  parallel_blocks(rows, rows_per_task(kGrain, cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) out[row] = (accumulate ? out[row] : 0) + row_sum(x + row * cols, cols);
  });
}
