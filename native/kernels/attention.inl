// Grouped-query attention on top of the matrix products: a task takes a block of queries of one key/value head, with all query heads
// that share it, and keeps their scores against every key that one of them sees in scratch (never T x T). A row's sums run over the
// keys from the first one of the sequence on, vector by vector; keys before and after those it sees add zeros: so a row has the same
// bits with and without cache and in any batch.

// Scores of one block, in floats: half a common L2. A block has at least a tile of rows, at most kAttentionRows.
constexpr int64_t kScores = 1 << 17;
constexpr int64_t kAttentionRows = 96;

struct KeyRange {
  int64_t first, end;
};

// The keys of its sequence that a query sees.
static KeyRange visible_keys(const Attention& p, int64_t query) {
  if (!p.causal) return {0, p.keys};
  const int64_t position = p.keys - p.queries + query;
  int64_t first = p.window > 0 && position >= p.window ? position + 1 - p.window : 0;
  if (p.chunk > 0 && position - position % p.chunk > first) first = position - position % p.chunk;
  return {first, position + 1};
}

SW_INLINE bool reaches_back(const Attention& p) { return !p.causal || (p.window == 0 && p.chunk == 0); }

// Most keys that a block of up to kAttentionRows queries sees, counted from a multiple of kLanes.
static int64_t most_keys(const Attention& p) {
  if (reaches_back(p)) return p.keys;
  const int64_t reach = p.window == 0 || (p.chunk > 0 && p.chunk < p.window) ? p.chunk : p.window;
  return p.keys < reach + kAttentionRows + kLanes ? p.keys : reach + kAttentionRows + kLanes;
}

// Rows of a block are (query, head of the group), heads side by side.
struct AttentionBlock {
  int64_t batch, kv_head, group, first, queries, rows;  // queries [first, first + queries)
  int64_t begin, keys;                                  // the keys that one of them sees: [begin, begin + keys), begin a multiple of kLanes
  int64_t ld;                                           // floats between rows of scores
  const char *k, *v;                                    // of key `begin`
  int64_t ld_k, ld_v, element;                          // elements between rows, bytes of an element

  // Row of q seen as [queries * heads, head_dim], from the sequence's start on.
  int64_t place(const Attention& p, int64_t row) const { return (first + row / group) * p.heads + kv_head * group + row % group; }

  // Counted from `begin`.
  KeyRange visible(const Attention& p, int64_t row) const {
    const KeyRange keys = visible_keys(p, first + row / group);
    return {keys.first - begin, keys.end - begin};
  }
  const float* bias(const Attention& p, int64_t row) const {
    if (p.bias == nullptr) return nullptr;
    return p.bias + batch * p.bias_batch + (kv_head * group + row % group) * p.bias_head + (first + row / group) * p.keys + begin;
  }
  Causal causal(const Attention& p) const { return {visible(p, 0).end, p.causal ? group : 0}; }
  const float* sink(const Attention& p, int64_t row) const { return p.sinks_H ? p.sinks_H + kv_head * group + row % group : nullptr; }
};

static int64_t queries_per_block(const Attention& p) {
  const int64_t group = p.heads / p.kv_heads;
  int64_t rows = kScores / (most_keys(p) + 1);
  rows = rows > kAttentionRows ? kAttentionRows : rows < kTileRows ? kTileRows : rows;
  const int64_t queries = (rows + group - 1) / group;
  return queries < p.queries ? queries : p.queries;
}

static int64_t query_blocks(const Attention& p) {
  const int64_t queries = queries_per_block(p);
  return (p.queries + queries - 1) / queries;
}

static AttentionBlock attention_block(const Attention& p, int64_t batch, int64_t kv_head, int64_t block) {
  AttentionBlock t;
  const int64_t most = queries_per_block(p);
  t.batch = batch, t.kv_head = kv_head, t.group = p.heads / p.kv_heads;
  t.first = block * most;
  t.queries = p.queries - t.first < most ? p.queries - t.first : most;
  t.rows = t.queries * t.group;
  t.begin = visible_keys(p, t.first).first / kLanes * kLanes;
  t.keys = visible_keys(p, t.first + t.queries - 1).end - t.begin;
  t.ld = (most_keys(p) + kPanel - 1) / kPanel * kPanel + kLanes;  // no power of two: rows of a tile would share few sets of the L1
  t.ld_k = p.kv_heads * p.head_dim, t.ld_v = p.value_stride;
  t.element = row_bytes(p.type, 1);
  t.k = (const char*)p.k + ((batch * p.key_stride + t.begin) * t.ld_k + kv_head * p.head_dim) * t.element;
  t.v = (const char*)p.v + ((batch * p.key_stride + t.begin) * t.ld_v + kv_head * p.value_dim) * t.element;
  return t;
}

// What a task needs while it works on a block.
struct AttentionScratch {
  int32_t* index_R;  // the rows' places
  float *scores, *dscores, *result_RD, *delta_R;
};

static AttentionScratch attention_scratch(const Attention& p, const AttentionBlock& t, bool backward) {
  AttentionScratch s;
  const int64_t most_rows = queries_per_block(p) * t.group, sheets = backward ? 2 : 1, result = backward ? p.head_dim : p.value_dim;
  s.scores = (float*)scratch(1, most_rows * (sheets * t.ld + result + 2) * sizeof(float));
  s.dscores = s.scores + (sheets - 1) * most_rows * t.ld;
  s.result_RD = s.scores + sheets * most_rows * t.ld;
  s.delta_R = s.result_RD + most_rows * result;
  s.index_R = (int32_t*)(s.delta_R + most_rows);
  for (int64_t r = 0; r < t.rows; r++) s.index_R[r] = (int32_t)t.place(p, r);
  return s;
}

// The part of a [batch * queries * heads, columns] array that belongs to the block's sequence; places count from there.
SW_INLINE int64_t sequence_start(const Attention& p, const AttentionBlock& t, int64_t columns) {
  return t.batch * p.queries * p.heads * columns;
}

// Keys that are asked for with each row of a block.
constexpr int64_t kKeysPerRow = 4;

SW_INLINE void ask_row(const void* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)row + i, 0, 2);
}

// Asks for a row of q, or of what lies as q does, that belongs to row r of a block.
SW_INLINE void ask_place(const Attention& p, const AttentionBlock& t, const float* q, int64_t columns, int64_t r) {
  if (r < t.rows) ask_row(q + sequence_start(p, t, columns) + t.place(p, r) * columns, columns * sizeof(float));
}

// Asks for the first keys of a block: rows r = 0, 1, ... of the one before it are to ask for some each. The first products of a block come too soon
// after each other to ask for what they read themselves.
SW_INLINE void ask_keys(const Attention& p, const AttentionBlock& t, int64_t r) {
  for (int64_t j = r * kKeysPerRow; j < (r + 1) * kKeysPerRow && j < t.keys; j++) {
    ask_row(t.k + j * t.ld_k * t.element, p.head_dim * t.element);
    ask_row(t.v + j * t.ld_v * t.element, p.value_dim * t.element);
  }
}

static void multiply(MatmulForm form, bool accumulate, int64_t m, int64_t n, int64_t k, float* out, int64_t ld_out, const float* a, int64_t ld_a,
                     const int32_t* rows_a, const void* b, int64_t ld_b, const int32_t* rows_b, Causal causal = {0, 0}, StoredType type = kFloat) {
  const Product p = {form, accumulate, m, n, k, out, ld_out, a, ld_a, type, (const char*)b, row_bytes(type, ld_b), rows_a, rows_b, nullptr, 0, causal};
  product_block<kF32>(p, 0, m, 0, n, nullptr);
}

// scale * s + bias, -infinity where it is not visible.
SW_INLINE vf scaled_score(const float* s, const float* bias, int64_t j, KeyRange visible, float scale) {
  vf x = load(s + j) * scale;
  const int64_t left = visible.end - j;
  if (bias) x += load_partial(bias + j, left < kLanes ? left : kLanes, 0);
  if (left >= kLanes && j >= visible.first) return x;
  const vi lane = lane_index() + (int32_t)j;
  return select((lane >= (int32_t)visible.first) & (lane < (int32_t)visible.end), x, splat(-__builtin_inff()));
}

// s = exp(scale * s + bias - max) where visible, zero in the rest of [0, end); returns max and sum, the sink's share included.
static void softmax_row(float* s, KeyRange visible, int64_t end, float scale, const float* bias, const float* sink, float* max_out, float* sum_out) {
  const int64_t start = visible.first / kLanes * kLanes;
  for (int64_t j = 0; j < start; j++) s[j] = 0;
  vf most = splat(-__builtin_inff()), sum = splat(0);
  for (int64_t j = start; j < visible.end; j += kLanes) {
    const vf x = scaled_score(s, bias, j, visible, scale);
    store(s + j, x);
    most = maximum(most, x);
  }
  float max = max_lanes(most);
  if (sink && *sink > max) max = *sink;
  if (max == -__builtin_inff()) max = 0;  // all masked
  for (int64_t j = start; j < visible.end; j += kLanes) {
    const vf e = vexp(load(s + j) - max);
    store(s + j, e);
    sum += e;
  }
  for (int64_t j = (visible.end + kLanes - 1) / kLanes * kLanes; j < end; j++) s[j] = 0;
  *max_out = max;
  *sum_out = sum_lanes(sum) + (sink ? vexp(splat(*sink - max))[0] : 0);
}

// The last queries see the most keys: largest tasks first.
static AttentionBlock block_of_task(const Attention& p, int64_t task) {
  const int64_t heads = p.batch * p.kv_heads;
  return attention_block(p, task % heads / p.kv_heads, task % p.kv_heads, query_blocks(p) - 1 - task / heads);
}

static void attention_task(void* context, int64_t task) {
  const Attention& p = *(const Attention*)context;
  const int64_t d = p.head_dim, dv = p.value_dim, after = task + thread_count();  // if all threads are equally fast
  const AttentionBlock t = block_of_task(p, task), next = block_of_task(p, after < p.batch * p.kv_heads * query_blocks(p) ? after : task);
  const AttentionScratch s = attention_scratch(p, t, false);
  const float* q = p.q + sequence_start(p, t, d);
  float *out = p.out + sequence_start(p, t, dv), *lse = p.lse + sequence_start(p, t, 1);
  if (p.f64) double_product(t.rows, t.keys, d, s.scores, t.ld, q, d, s.index_R, (const float*)t.k, t.ld_k, false);
  else multiply(kNT, false, t.rows, t.keys, d, s.scores, t.ld, q, d, s.index_R, t.k, t.ld_k, nullptr, t.causal(p), p.type);
  for (int64_t r = 0; r < t.rows; r++) {
    ask_place(p, next, p.q, d, r);
    ask_keys(p, next, r);
    float max, sum;
    softmax_row(s.scores + r * t.ld, t.visible(p, r), t.keys, p.scale, t.bias(p, r), t.sink(p, r), &max, &sum);
    lse[s.index_R[r]] = max + logf(sum);
    s.delta_R[r] = sum > 0 ? 1 / sum : 0;
  }
  multiply(kNN, false, t.rows, dv, t.keys, s.result_RD, dv, s.scores, t.ld, nullptr, t.v, t.ld_v, nullptr, t.causal(p), p.type);
  for (int64_t r = 0; r < t.rows; r++) {
    for (int64_t c = 0; c < dv; c++) out[s.index_R[r] * dv + c] = s.result_RD[r * dv + c] * s.delta_R[r];
  }
}
