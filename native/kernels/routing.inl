// Choosing experts and sorting tokens by them.

// Columns of the k largest of x, best first, ties to the lower column. x is finite or +infinity; its chosen elements become -infinity.
SW_INLINE void largest(int32_t* best, int64_t k, float* x, int64_t n) {
  const vf none = splat(-__builtin_inff());
  for (int64_t j = 0; j < k; j++) {
    vf most = none, at = none;
    vf column = -__builtin_convertvector(lane_index(), vf);  // negative: the first of equals is the largest
    for (int64_t i = 0; i < n; i += kLanes, column -= (float)kLanes) {
      const vf value = load(x + i, n - i, none[0]);
      at = select(value > most, column, at);
      most = maximum(value, most);
    }
    best[j] = (int32_t)-max_lanes(select(most == max_lanes(most), at, none));
    x[best[j]] = none[0];
  }
}

SW_INLINE float group_score(const float* x, int64_t n, bool top2sum) {
  float most = x[0], next = -__builtin_inff();
  for (int64_t i = 1; i < n; i++) {
    next = x[i] > most ? most : x[i] > next ? x[i] : next;
    most = x[i] > most ? x[i] : most;
  }
  return top2sum && n > 1 ? most + next : most;
}

// NaN and -infinity count as the least finite number.
static void top_k(const TopK& p) {
  const int64_t E = p.experts, G = p.groups, size = G ? E / G : E;
  const vf least = splat(-3.40282347e38f);
  parallel_blocks(p.tokens, rows_per_task(kHeavyGrain, E), [&](int64_t first, int64_t last) {
    float* choice_E = (float*)scratch(1, (E + 2 * G) * sizeof(float));
    float* score_G = choice_E + E;
    int32_t* kept_G = (int32_t*)(score_G + G);
    for (int64_t t = first; t < last; t++) {
      const float* scores = p.scores + t * E;
      for (int64_t e = 0; e < E; e += kLanes) {
        vf score = load(scores + e, E - e);
        if (p.bias) score += load(p.bias + e, E - e);
        store(choice_E + e, select(score >= least, score, least), E - e);
      }
      if (G) {
        for (int64_t g = 0; g < G; g++) score_G[g] = maximum(splat(group_score(choice_E + g * size, size, p.top2sum)), least)[0];
        largest(kept_G, p.keep, score_G, G);
        for (int64_t g = 0; g < G; g++) {
          if (score_G[g] >= least[0]) for (int64_t e = g * size; e < (g + 1) * size; e++) choice_E[e] = least[0];
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
