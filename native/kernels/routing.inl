// Choosing experts and sorting tokens by them.

// Columns of the k largest of x, best first, ties to the lower column.
SW_INLINE void largest(int32_t* best, int64_t k, const float* x, int64_t n) {
  int64_t filled = 0;
  for (int64_t column = 0; column < n; column++) {
    const float value = x[column];
    if (filled == k && !(value > x[best[k - 1]])) continue;
    int64_t at = filled < k ? filled++ : k - 1;
    for (; at > 0 && value > x[best[at - 1]]; at--) best[at] = best[at - 1];
    best[at] = (int32_t)column;
  }
}

SW_INLINE float group_score(const float* x, int64_t n, bool top2sum) {
  float most = -__builtin_inff(), next = most;
  for (int64_t i = 0; i < n; i++) {
    if (x[i] > most) next = most, most = x[i];
    else if (x[i] > next) next = x[i];
  }
  return top2sum && n > 1 ? most + next : most;
}

// NaN counts as -infinity.
static void top_k(const TopK& p) {
  const int64_t E = p.experts, G = p.groups, size = G ? E / G : E;
  const float least = -__builtin_inff();
  parallel_blocks(p.tokens, rows_per_task(kHeavyGrain, E), [&](int64_t first, int64_t last) {
    float* choice_E = (float*)scratch(1, (E + 2 * G) * sizeof(float));
    float* score_G = choice_E + E;
    int32_t* order_G = (int32_t*)(score_G + G);
    for (int64_t t = first; t < last; t++) {
      const float* scores = p.scores + t * E;
      for (int64_t e = 0; e < E; e += kLanes) {
        vf score = load(scores + e, E - e);
        if (p.bias) score += load(p.bias + e, E - e);
        store(choice_E + e, select(score == score, score, splat(least)), E - e);
      }
      if (G) {
        for (int64_t g = 0; g < G; g++) score_G[g] = group_score(choice_E + g * size, size, p.top2sum);
        largest(order_G, G, score_G, G);
        for (int64_t g = p.keep; g < G; g++) {
          for (int64_t e = 0; e < size; e++) choice_E[order_G[g] * size + e] = least;
        }
      }
      largest(p.indices + t * p.k, p.k, choice_E, E);
    }
  });
}

static void gather_columns(float* out, const float* x, const int32_t* columns_TK, int64_t tokens, int64_t k, int64_t cols) {
  parallel_blocks(tokens, rows_per_task(kGrain, k), [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      for (int64_t i = t * k; i < (t + 1) * k; i++) out[i] = columns_TK[i] < 0 ? 0 : x[t * cols + columns_TK[i]];
    }
  });
}

static void scatter_columns(float* dx, const float* dout, const int32_t* columns_TK, int64_t tokens, int64_t k, int64_t cols, bool accumulate) {
  parallel_blocks(tokens, rows_per_task(kGrain, cols), [&](int64_t first, int64_t last) {
    if (!accumulate) memset(dx + first * cols, 0, (last - first) * cols * sizeof(float));
    for (int64_t t = first; t < last; t++) {
      for (int64_t i = t * k; i < (t + 1) * k; i++) {
        if (columns_TK[i] >= 0) dx[t * cols + columns_TK[i]] += dout[i];
      }
    }
  });
}

// A stable counting sort, on the calling thread: 16,384 slots take less time than a few hand-overs between threads.
static void sort_by_expert(const SortByExpert& p) {
  const int64_t slots = p.tokens * p.k;
  int32_t* next_E = (int32_t*)scratch(0, (p.experts + 1) * sizeof(int32_t));
  memset(next_E, 0, (p.experts + 1) * sizeof(int32_t));
  for (int64_t slot = 0; slot < slots; slot++) {
    if (p.experts_TK[slot] >= 0) next_E[p.experts_TK[slot]]++;
  }
  int32_t row = 0;
  for (int64_t e = 0; e < p.experts; e++) {
    const int32_t count = next_E[e];
    p.offsets_E[e] = next_E[e] = row;
    row += count;
  }
  p.offsets_E[p.experts] = row;
  for (int64_t t = 0, slot = 0; t < p.tokens; t++) {
    for (int64_t k = 0; k < p.k; k++, slot++) {
      const int32_t e = p.experts_TK[slot];
      const int32_t to = e < 0 ? -1 : next_E[e]++;
      p.positions_TK[slot] = to;
      if (to < 0) continue;
      p.slots_N[to] = (int32_t)slot;
      p.tokens_N[to] = (int32_t)t;
    }
  }
  memset(p.slots_N + row, -1, (p.rows - row) * sizeof(int32_t));
  memset(p.tokens_N + row, -1, (p.rows - row) * sizeof(int32_t));
}
