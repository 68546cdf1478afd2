// Causal grouped-query attention on top of the matrix products: a task takes a block of queries of one key/value head, with all query
// heads that share it, and keeps their scores against every visible key in scratch (never T x T). A row's sums run over the keys from
// the first one on, vector by vector, and masked keys add zeros: so a row has the same bits with and without cache and in any batch.

// Scores of one block, in floats: half a common L2. A block has at least a tile of rows, at most kAttentionRows.
constexpr int64_t kScores = 1 << 17;
constexpr int64_t kAttentionRows = 64;

// Rows of a block are (query, head of the group), heads side by side.
struct AttentionBlock {
  int64_t batch, kv_head, group, first, queries, rows;  // queries [first, first + queries)
  int64_t visible;                                      // keys that the block's last query sees
  int64_t ld;                                           // floats between rows of scores
  const float *k, *v;
  int64_t ld_kv;
  int32_t* index_R;  // row -> row of q seen as [batch * queries * heads, headDim]
  float *scores, *dscores, *result_RD, *delta_R;

  int64_t visible_to(int64_t row) const { return visible - queries + row / group + 1; }
};

static int64_t queries_per_block(const Attention& p) {
  const int64_t group = p.heads / p.kv_heads;
  int64_t rows = kScores / (p.keys + 1);
  rows = rows > kAttentionRows ? kAttentionRows : rows < kTileRows ? kTileRows : rows;
  const int64_t queries = (rows + group - 1) / group;
  return queries < p.queries ? queries : p.queries;
}

static int64_t query_blocks(const Attention& p) {
  const int64_t queries = queries_per_block(p);
  return (p.queries + queries - 1) / queries;
}

static AttentionBlock attention_block(const Attention& p, int64_t batch, int64_t kv_head, int64_t block, bool backward) {
  AttentionBlock t;
  const int64_t most = queries_per_block(p);
  t.batch = batch, t.kv_head = kv_head, t.group = p.heads / p.kv_heads;
  t.first = block * most;
  t.queries = p.queries - t.first < most ? p.queries - t.first : most;
  t.rows = t.queries * t.group;
  t.visible = p.keys - p.queries + t.first + t.queries;
  t.ld = (p.keys + kPanel - 1) / kPanel * kPanel;
  t.ld_kv = p.kv_heads * p.head_dim;
  t.k = p.k + batch * p.key_stride * t.ld_kv + kv_head * p.head_dim;
  t.v = p.v + batch * p.key_stride * t.ld_kv + kv_head * p.head_dim;
  const int64_t most_rows = most * t.group, sheets = backward ? 2 : 1;
  t.scores = (float*)scratch(1, most_rows * (sheets * t.ld + p.head_dim + 2) * sizeof(float));
  t.dscores = t.scores + (sheets - 1) * most_rows * t.ld;
  t.result_RD = t.scores + sheets * most_rows * t.ld;
  t.delta_R = t.result_RD + most_rows * p.head_dim;
  t.index_R = (int32_t*)(t.delta_R + most_rows);
  for (int64_t r = 0; r < t.rows; r++) t.index_R[r] = (int32_t)((t.first + r / t.group) * p.heads + kv_head * t.group + r % t.group);
  return t;
}

// The part of a [batch * queries * heads, columns] array that belongs to the block's sequence; index_R counts from there.
SW_INLINE int64_t sequence_start(const Attention& p, const AttentionBlock& t, int64_t columns) {
  return t.batch * p.queries * p.heads * columns;
}

static void multiply(MatmulForm form, bool accumulate, int64_t m, int64_t n, int64_t k, float* out, int64_t ld_out, const float* a, int64_t ld_a,
                     const int32_t* rows_a, const float* b, int64_t ld_b, const int32_t* rows_b) {
  const Product p = {form, accumulate, m, n, k, out, ld_out, a, ld_a, b, ld_b, rows_a, rows_b};
  product_block<kF32>(p, 0, m, 0, n);
}

// Scales a row of scores and fills it with -infinity from `visible` to the end of its last vector.
SW_INLINE void mask(float* s, int64_t visible) {
  for (int64_t j = visible; j % kLanes != 0; j++) s[j] = -__builtin_inff();
}

// s[0..visible) = exp(scale * s - max), zero up to `end`; returns max and sum.
static void softmax_row(float* s, int64_t visible, int64_t end, float scale, float* max_out, float* sum_out) {
  mask(s, visible);
  vf most = splat(-__builtin_inff()), sum = splat(0);
  for (int64_t j = 0; j < visible; j += kLanes) {
    const vf x = load(s + j) * scale;
    store(s + j, x);
    most = maximum(most, x);
  }
  const float max = max_lanes(most);
  for (int64_t j = 0; j < visible; j += kLanes) {
    const vf e = vexp(load(s + j) - max);
    store(s + j, e);
    sum += e;
  }
  for (int64_t j = (visible + kLanes - 1) / kLanes * kLanes; j < end; j++) s[j] = 0;
  *max_out = max;
  *sum_out = sum_lanes(sum);
}

static void attention_task(void* context, int64_t task) {
  const Attention& p = *(const Attention*)context;
  const int64_t heads = p.batch * p.kv_heads, d = p.head_dim;
  // The last queries see the most keys: largest tasks first.
  const AttentionBlock t = attention_block(p, task % heads / p.kv_heads, task % p.kv_heads, query_blocks(p) - 1 - task / heads, false);
  const float* q = p.q + sequence_start(p, t, d);
  float *out = p.out + sequence_start(p, t, d), *lse = p.lse + sequence_start(p, t, 1);
  multiply(kNT, false, t.rows, t.visible, d, t.scores, t.ld, q, d, t.index_R, t.k, t.ld_kv, nullptr);
  for (int64_t r = 0; r < t.rows; r++) {
    float max, sum;
    softmax_row(t.scores + r * t.ld, t.visible_to(r), t.visible, p.scale, &max, &sum);
    lse[t.index_R[r]] = max + logf(sum);
    t.delta_R[r] = 1 / sum;
  }
  multiply(kNN, false, t.rows, d, t.visible, t.result_RD, d, t.scores, t.ld, nullptr, t.v, t.ld_kv, nullptr);
  for (int64_t r = 0; r < t.rows; r++) {
    for (int64_t c = 0; c < d; c++) out[t.index_R[r] * d + c] = t.result_RD[r * d + c] * t.delta_R[r];
  }
}

static void attention(const Attention& p) { parallel_for(p.batch * p.kv_heads * query_blocks(p), attention_task, (void*)&p); }

// scores: s -> p = exp(scale * s - lse); dscores: dp -> ds = scale * p * (dp - delta). Zeros from `visible` to `end`.
static void softmax_backward_row(float* s, float* ds, int64_t visible, int64_t end, float scale, float lse, float delta) {
  mask(s, visible);
  for (int64_t j = 0; j < visible; j += kLanes) {
    const vf e = vexp(load(s + j) * scale - lse);
    store(s + j, e);
    store(ds + j, e * (load(ds + j) - delta) * scale);
  }
  for (int64_t j = visible; j < end; j++) s[j] = ds[j] = 0;
}

// One task per key/value head of a sequence: it owns dk, dv and the dq of the heads that share it.
static void attention_backward_task(void* context, int64_t task) {
  const Attention& p = *(const Attention*)context;
  const int64_t d = p.head_dim, blocks = query_blocks(p);
  // The last block sees every key and so writes all of dk and dv; the others add to theirs.
  for (int64_t block = blocks - 1; block >= 0; block--) {
    const AttentionBlock t = attention_block(p, task / p.kv_heads, task % p.kv_heads, block, true);
    const int64_t start = sequence_start(p, t, d), kv = t.k - p.k;
    const float *q = p.q + start, *out = p.out + start, *dout = p.dout + start, *lse = p.lse + sequence_start(p, t, 1);
    multiply(kNT, false, t.rows, t.visible, d, t.scores, t.ld, q, d, t.index_R, t.k, t.ld_kv, nullptr);
    multiply(kNT, false, t.rows, t.visible, d, t.dscores, t.ld, dout, d, t.index_R, t.v, t.ld_kv, nullptr);
    for (int64_t r = 0; r < t.rows; r++) {
      const int64_t row = t.index_R[r];
      vf sum = splat(0);
      for (int64_t c = 0; c < d; c += kLanes) {
        const int64_t n = d - c < kLanes ? d - c : kLanes;
        sum += load_partial(dout + row * d + c, n, 0) * load_partial(out + row * d + c, n, 0);
      }
      softmax_backward_row(t.scores + r * t.ld, t.dscores + r * t.ld, t.visible_to(r), t.visible, p.scale, lse[row], sum_lanes(sum));
    }
    const bool add = block < blocks - 1;
    multiply(kTN, add, t.visible, d, t.rows, p.dv + kv, t.ld_kv, t.scores, t.ld, nullptr, dout, d, t.index_R);
    multiply(kTN, add, t.visible, d, t.rows, p.dk + kv, t.ld_kv, t.dscores, t.ld, nullptr, q, d, t.index_R);
    multiply(kNN, false, t.rows, d, t.visible, t.result_RD, d, t.dscores, t.ld, nullptr, t.k, t.ld_kv, nullptr);
    for (int64_t r = 0; r < t.rows; r++) memcpy(p.dq + start + t.index_R[r] * d, t.result_RD + r * d, d * sizeof(float));
  }
}

static void attention_backward(const Attention& p) { parallel_for(p.batch * p.kv_heads, attention_backward_task, (void*)&p); }
