// The choice of keys for sparse attention.

// Keys whose products with all heads of a query are in scratch at a time.
constexpr int64_t kIndexerKeys = 512;

// Floats as integers of the same order; NaN counts as the least.
SW_INLINE vi ordered(vf x) {
  const vi bits = (vi)select(x >= -3.40282347e38f, x + 0.0f, splat(-3.40282347e38f));  // -0 becomes 0
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

static int64_t count_at_least(const int32_t* x, int64_t n, int32_t limit) {
  vi count = {};
  for (int64_t i = 0; i < n; i += kLanes) count -= *(const vi*)(x + i) >= limit;
  int64_t sum = 0;
  for (int i = 0; i < kLanes; i++) sum += count[i];
  return sum;
}

// The largest value that at least k of the n elements reach, bit by bit; x is filled up with the least integer to a whole vector.
static int32_t kth_largest(const int32_t* x, int64_t n, int64_t k) {
  int32_t limit = INT32_MIN;
  for (int bit = 31; bit >= 0; bit--) {
    const int32_t candidate = (int32_t)((uint32_t)limit + (1u << bit));
    if (count_at_least(x, n, candidate) >= k) limit = candidate;
  }
  return limit;
}

static void indexer_scores(int32_t* order, float* products, const LightningIndexer& p, int64_t row, int64_t visible) {
  const float *q = p.q + row * p.heads * p.head_dim, *weights = p.weights + row * p.heads;
  for (int64_t j0 = 0; j0 < visible; j0 += kIndexerKeys) {
    const int64_t n = visible - j0 < kIndexerKeys ? visible - j0 : kIndexerKeys;
    const float* k = p.k + (row / p.queries * p.key_stride + j0) * p.head_dim;
    multiply(kNT, false, p.heads, n, p.head_dim, products, kIndexerKeys, q, p.head_dim, nullptr, k, p.head_dim, nullptr);
    for (int64_t j = 0; j < n; j += kLanes) {
      vf score = {};
      for (int64_t h = 0; h < p.heads; h++) score += maximum(load(products + h * kIndexerKeys + j), splat(0)) * weights[h];
      *(vi*)(order + j0 + j) = lane_index() < (int32_t)(n - j) ? ordered(score) : (vi){} + INT32_MIN;
    }
  }
}

static void lightning_indexer(const LightningIndexer& p) {
  parallel_blocks(p.batch * p.queries, 1, [&](int64_t first, int64_t last) {
    float* products = (float*)scratch(1, (p.heads * kIndexerKeys + p.keys + kLanes) * sizeof(float));
    int32_t* order = (int32_t*)(products + p.heads * kIndexerKeys);
    for (int64_t row = first; row < last; row++) {
      float* bias = p.bias + row * p.keys;
      const int64_t visible = p.keys - p.queries + row % p.queries + 1;
      const bool all = visible <= p.top_k;
      int32_t limit = INT32_MIN;
      int64_t equals = 0;
      if (!all) {
        indexer_scores(order, products, p, row, visible);
        limit = kth_largest(order, visible, p.top_k);
        equals = p.top_k - count_at_least(order, visible, limit + 1);
      }
      for (int64_t j = 0; j < p.keys; j++) {
        const bool kept = j < visible && (all || order[j] > limit || (order[j] == limit && equals-- > 0));
        bias[j] = kept ? 0 : -__builtin_inff();
      }
    }
  });
}
