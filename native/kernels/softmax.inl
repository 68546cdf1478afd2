// Softmax, log-sum-exp and cross-entropy over rows.

SW_INLINE float log_of(float x) { return vlog(splat(x))[0]; }

static void softmax(float* out, const float* x, int64_t rows, int64_t cols) {
  parallel_blocks(rows, rows_per_task(kHeavyGrain, cols), [&](int64_t first, int64_t last) {
    for (int64_t at = first * cols; at < last * cols; at += cols) {
      const float factor = 1 / row_exp(out + at, x + at, cols, row_max(x + at, cols));
      map(out + at, out + at, cols, [&](vf e) { return e * factor; });
    }
  });
}

static void softmax_backward(float* dx, const float* dout, const float* out, int64_t rows, int64_t cols, bool accumulate) {
  parallel_blocks(rows, rows_per_task(kGrain, cols), [&](int64_t first, int64_t last) {
    for (int64_t at = first * cols; at < last * cols; at += cols) {
      const float mean = row_dot(dout + at, out + at, cols);
      for (int64_t i = at, left = cols; left > 0; i += kLanes, left -= kLanes) {
        const vf value = load(out + i, left) * (load(dout + i, left) - mean);
        store(dx + i, accumulate ? load(dx + i, left) + value : value, left);
      }
    }
  });
}

static void log_sum_exp(float* out, const float* x, int64_t rows, int64_t cols) {
  parallel_blocks(rows, rows_per_task(kHeavyGrain, cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float max = row_max(x + row * cols, cols);
      out[row] = max + log_of(row_exp(nullptr, x + row * cols, cols, max));
    }
  });
}

static void log_sum_exp_backward(float* dx, const float* dout, const float* x, int64_t rows, int64_t cols, bool accumulate) {
  parallel_blocks(rows, rows_per_task(kHeavyGrain, cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const int64_t at = row * cols;
      const float max = row_max(x + at, cols), factor = dout[row] / row_exp(nullptr, x + at, cols, max);
      for (int64_t i = at, left = cols; left > 0; i += kLanes, left -= kLanes) {
        const vf value = vexp(load(x + i, left) - max) * factor;
        store(dx + i, accumulate ? load(dx + i, left) + value : value, left);
      }
    }
  });
}

static void cross_entropy(float* losses, const float* logits, const int32_t* targets, int64_t tokens, int64_t vocab) {
  parallel_blocks(tokens, rows_per_task(kHeavyGrain, vocab), [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const float* x = logits + t * vocab;
      losses[t] = 0;
      if (targets[t] < 0) continue;
      const float max = row_max(x, vocab);
      losses[t] = log_of(row_exp(nullptr, x, vocab, max)) + (max - x[targets[t]]);
    }
  });
}

// dlogits may be logits.
static void cross_entropy_backward(float* dlogits, const float* dlosses, const float* logits, const int32_t* targets, int64_t tokens, int64_t vocab) {
  parallel_blocks(tokens, rows_per_task(kHeavyGrain, vocab), [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const float* x = logits + t * vocab;
      float* dx = dlogits + t * vocab;
      if (targets[t] < 0) {
        memset(dx, 0, vocab * sizeof(float));
        continue;
      }
      const float factor = dlosses[t] / row_exp(dx, x, vocab, row_max(x, vocab));
      map(dx, dx, vocab, [&](vf e) { return e * factor; });
      dx[targets[t]] -= dlosses[t];
    }
  });
}
