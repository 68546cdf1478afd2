// The choice of keys for sparse attention.

// Keys whose products with all heads of a query are in scratch at a time.
constexpr int64_t kIndexerKeys = 512;

struct Scored {
  float score;
  int32_t key;
};

static void swap(Scored* a, Scored* b) {
  const Scored x = *a;
  *a = *b;
  *b = x;
}

// Brings the k best of n to the front, as C++'s nth_element does (Musser 1997): of equals it leaves in front those that PyTorch's topk chooses.
static void best_first(Scored* x, int64_t n, int64_t k) {
  int64_t first = 0, last = n;
  while (last - first > 3) {
    Scored *pivot = x + first, *a = pivot + 1, *b = x + first + (last - first) / 2, *c = x + last - 1;
    if (a->score > b->score) swap(pivot, b->score > c->score ? b : a->score > c->score ? c : a);
    else swap(pivot, a->score > c->score ? a : b->score > c->score ? c : b);
    Scored *low = pivot + 1, *high = x + last;
    for (;; low++) {
      while (low->score > pivot->score) low++;
      do high--;
      while (pivot->score > high->score);
      if (low >= high) break;
      swap(low, high);
    }
    if (low - x < k) first = low - x;
    else last = low - x;
  }
  for (int64_t i = first + 1; i < last; i++) {
    for (int64_t j = i; j > first && x[j].score > x[j - 1].score; j--) swap(x + j, x + j - 1);
  }
}

static void indexer_scores(Scored* scored, float* products, const LightningIndexer& p, int64_t row, int64_t visible) {
  const float *q = p.q + row * p.heads * p.head_dim, *weights = p.weights + row * p.heads;
  for (int64_t j0 = 0; j0 < visible; j0 += kIndexerKeys) {
    const int64_t n = visible - j0 < kIndexerKeys ? visible - j0 : kIndexerKeys;
    const float* k = p.k + (row / p.queries * p.key_stride + j0) * p.head_dim;
    multiply(kNT, false, p.heads, n, p.head_dim, products, kIndexerKeys, q, p.head_dim, nullptr, k, p.head_dim, nullptr);
    for (int64_t j = 0; j < n; j += kLanes) {
      vf score = {};
      for (int64_t h = 0; h < p.heads; h++) score += maximum(load(products + h * kIndexerKeys + j), splat(0)) * weights[h];
      score = select(score >= -3.40282347e38f, score, splat(-3.40282347e38f));  // NaN counts as the least
      for (int64_t i = 0; i < kLanes && j + i < n; i++) scored[j0 + j + i] = {score[i], (int32_t)(j0 + j + i)};
    }
  }
}

static void lightning_indexer(const LightningIndexer& p) {
  parallel_blocks(p.batch * p.queries, 1, [&](int64_t first, int64_t last) {
    float* products = (float*)scratch(1, p.heads * kIndexerKeys * sizeof(float) + p.keys * sizeof(Scored));
    Scored* scored = (Scored*)(products + p.heads * kIndexerKeys);
    for (int64_t row = first; row < last; row++) {
      float* bias = p.bias + row * p.keys;
      const int64_t visible = p.keys - p.queries + row % p.queries + 1;
      const bool all = visible <= p.top_k;
      for (int64_t j = 0; j < p.keys; j++) bias[j] = all && j < visible ? 0 : -__builtin_inff();
      if (all) continue;
      indexer_scores(scored, products, p, row, visible);
      for (int64_t j = visible; j < p.keys; j++) scored[j] = {-__builtin_inff(), (int32_t)j};
      best_first(scored, p.keys, p.top_k);
      for (int64_t i = 0; i < p.top_k; i++) bias[scored[i].key] = 0;
    }
  });
}
