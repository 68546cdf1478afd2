// Moving and adding whole rows.

// Tasks own columns, so that each element is added to in rising order of m.
static void scatter_add_rows(float* dtable, const float* dout, const int32_t* rows, int64_t m, int64_t cols) {
  const int64_t chunk = m * cols < kGrain ? cols : 128;
  parallel_blocks(cols, chunk < 1 ? 1 : chunk, [&](int64_t first, int64_t last) {
    for (int64_t i = 0; i < m; i++) {
      if (rows[i] < 0) continue;
      float* to = dtable + rows[i] * cols;
      const float* from = dout + i * cols;
      for (int64_t j = first; j < last; j += kLanes) store(to + j, load(to + j, last - j) + load(from + j, last - j), last - j);
    }
  });
}

static void combine_rows(float* out, const float* y, const int32_t* positions_TK, const float* weights_TK, int64_t tokens, int64_t k, int64_t cols, bool accumulate) {
  parallel_blocks(tokens, rows_per_task(kGrain, (k + 1) * cols), [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const int32_t* positions = positions_TK + t * k;
      const int64_t ahead = t + 1 < last ? k : 0;  // the next token's rows
      for (int64_t i = 0; i < cols; i += kLanes) {
        for (int64_t j = 0; j < k; j++) __builtin_prefetch(y + positions[ahead + j] * cols + i, 0, 2);
        vf sum = {};
        for (int64_t j = 0; j < k; j++) {
          if (positions[j] < 0) continue;
          const vf row = load(y + positions[j] * cols + i, cols - i);
          sum = weights_TK ? sum + row * weights_TK[t * k + j] : sum + row;
        }
        float* to = out + t * cols + i;
        store(to, accumulate ? load(to, cols - i) + sum : sum, cols - i);
      }
    }
  });
}
