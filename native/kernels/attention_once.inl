// Attention of few queries to many keys, as when tokens are generated: bound by reading keys and values, which are read once, in the order in
// which they lie in memory (all heads of a few rows, then the next rows), and never packed. Three passes over tasks that every thread has some
// of, even for a single key/value head: scores of a chunk of keys; softmax of a row; some columns of the result. Each element of the
// result is the same chain of multiply-adds as in a block.

// Rows of queries of one key/value head whose sums fit the registers beside the vectors read.
constexpr int kOnceRows = kLanes == 8 ? 4 : 8;
// Rows of values mixed before the next head's turn. What comes so many rows later, twice and three times as many, is asked for, into the L2: rows are
// often 4 KiB apart, so that the L1 could not hold them.
constexpr int64_t kOnceBlock = 16;

// Floats or halves from row j to those that are asked for there, of `rows` that are read in order, `ld` apart.
struct Ahead {
  int64_t at[kRequests];
  Ahead(int64_t j, int64_t rows, int64_t ld) {
    for (int i = 0; i < kRequests; i++) at[i] = j + (i + 1) * kOnceBlock < rows ? (i + 1) * kOnceBlock * ld : 0;
  }
};

struct OncePass {
  const Attention& p;
  int64_t rows, ld;                        // of one key/value head: rows of scores, floats between them
  int64_t chunk_keys, chunks;              // of keys per task, for all heads of a sequence
  int64_t task_heads, heads, columns, pieces;  // of results: key/value heads per task, tasks that are heads; columns per task, tasks that are columns
  float *q, *scores, *factors;             // per key/value head [head_dim][rows], [rows][ld], [rows]: 1 / sum
};

// s[r][j] = q_r . k_j for a vector of keys, of which `keys` exist. Asks for as many bytes at `ahead`. Halves are transposed in pairs: whole vectors of each
// row, whose lines the L1 might not keep for a second visit.
template <int R, StoredType T>
SW_INLINE void scores_of(float* s, int64_t ld_s, const float* q_DR, int64_t d, const char* k, int64_t ld_k, int64_t keys, const char* in_order, const Ahead& ahead) {
  constexpr int64_t element = row_bytes(T, 1), step = T == kFloat ? kLanes : 2 * kLanes;
  constexpr int requests = T == kFloat ? kFewRequests : kRequests;
  const char* rows[kLanes];
  for (int r = 0; r < kLanes; r++) rows[r] = k + (r < keys ? r : 0) * ld_k * element;
  vf sum[R] = {};
  const auto add = [&](const float* q, vf x) {
    SW_UNROLL for (int r = 0; r < R; r++) sum[r] += splat(q[r]) * x;
  };
  int64_t c = 0;
  for (; c + step <= d; c += step, in_order += kLanes * kLanes * 4) {
    SW_UNROLL for (int line = 0; line < kLanes * kLanes * 4 / 64; line++) {
      SW_UNROLL for (int i = 0; i < requests; i++) __builtin_prefetch(in_order + (ahead.at[i] * element + 64 * line), 0, 2);
    }
    transpose_loaded(rows, c * element, [&](int i, vf x) {
      if (T == kFloat) return add(q_DR + (c + i) * R, x);
      add(q_DR + (c + 2 * i) * R, low_half((vu)x, T));
      add(q_DR + (c + 2 * i + 1) * R, high_half((vu)x, T));
    });
  }
  for (; c < d; c++) {
    float x[kLanes];
    for (int r = 0; r < kLanes; r++) x[r] = load_as<T>(rows[r] + c * element, 1)[0];
    add(q_DR + c * R, load(x));
  }
  SW_UNROLL for (int r = 0; r < R; r++) store(s + r * ld_s, sum[r]);
}

// Scores of keys [first, first + keys) with all heads of a sequence, whose first pair of batch and key/value head is `pair`.
template <int R, StoredType T>
static void once_scores_of(const OncePass& pass, const AttentionBlock& t, int64_t pair, int64_t first, int64_t keys) {
  const int64_t d = pass.p.head_dim;
  for (int64_t j = first; j < first + keys; j += kLanes) {
    const char* k = t.k + j * t.ld_k * t.element;
    const Ahead ahead(j - first, keys, t.ld_k);
    for (int64_t h = 0; h < pass.p.kv_heads; h++) {
      scores_of<R, T>(pass.scores + (pair + h) * R * pass.ld + j, pass.ld, pass.q + (pair + h) * R * d, d, k + h * d * t.element, t.ld_k, first + keys - j,
                      k + h * kLanes * d * t.element, ahead);
    }
  }
}

// out[r][0..C vectors) (+)= sum over j of p[r][j] * v[j]; `n` columns are left of the last vector.
template <int R, int C, StoredType T>
SW_INLINE void mix_columns(float* out, int64_t ld_out, const float* p, int64_t ld_p, const char* v, int64_t ld_v, int64_t keys, const Ahead& ahead, int64_t n, bool add) {
  constexpr int64_t element = row_bytes(T, 1);
  constexpr int requests = T == kFloat ? kFewRequests : kRequests;
  vf sum[R][C];
  SW_UNROLL for (int r = 0; r < R; r++) {
    SW_UNROLL for (int c = 0; c < C; c++) sum[r][c] = add ? load(out + r * ld_out + c * kLanes) : splat(0);
  }
  for (int64_t j = 0; j < keys; j++, v += ld_v * element) {
    vf x[C];
    SW_UNROLL for (int c = 0; c < C; c++) {
      x[c] = load_as<T>(v + c * kLanes * element, n);
      if (c * kLanes * element % 64 != 0) continue;
      SW_UNROLL for (int i = 0; i < requests; i++) __builtin_prefetch(v + (ahead.at[i] + c * kLanes) * element, 0, 2);
    }
    SW_UNROLL for (int r = 0; r < R; r++) {
      const vf weight = splat(p[r * ld_p + j]);
      SW_UNROLL for (int c = 0; c < C; c++) sum[r][c] += weight * x[c];
    }
  }
  SW_UNROLL for (int r = 0; r < R; r++) {
    SW_UNROLL for (int c = 0; c < C; c++) store(out + r * ld_out + c * kLanes, sum[r][c]);
  }
}

// mixed[heads][R][ld_mixed] = weighted sums of columns [first, first + columns) of the values of `heads` heads from `pair` on. ld_mixed is a
// whole number of vectors.
template <int R, StoredType T>
static void once_mix_of(const OncePass& pass, const AttentionBlock& t, int64_t pair, int64_t heads, int64_t first, int64_t columns, float* mixed, int64_t ld_mixed) {
  constexpr int most = (kLanes == 16 ? 16 : 8) / R, C = most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;
  for (int64_t j = 0; j < t.keys; j += kOnceBlock) {
    const int64_t keys = t.keys - j < kOnceBlock ? t.keys - j : kOnceBlock;
    const Ahead ahead(j, t.keys, t.ld_v);
    for (int64_t h = 0; h < heads; h++) {
      const float* p = pass.scores + (pair + h) * R * pass.ld + j;
      const char* v = t.v + (j * t.ld_v + h * pass.p.value_dim + first) * t.element;
      float* out = mixed + h * R * ld_mixed;
      int64_t c = 0;
      for (; c + C * kLanes <= columns; c += C * kLanes) mix_columns<R, C, T>(out + c, ld_mixed, p, pass.ld, v + c * t.element, t.ld_v, keys, ahead, kLanes, j > 0);
      if (C > 2) {
        for (; c + 2 * kLanes <= columns; c += 2 * kLanes) mix_columns<R, 2, T>(out + c, ld_mixed, p, pass.ld, v + c * t.element, t.ld_v, keys, ahead, kLanes, j > 0);
      }
      for (; c < columns; c += kLanes) mix_columns<R, 1, T>(out + c, ld_mixed, p, pass.ld, v + c * t.element, t.ld_v, keys, ahead, columns - c, j > 0);
    }
  }
}

// The kernels of 1 to kOnceRows rows.
struct OnceKernels {
  void (*scores)(const OncePass&, const AttentionBlock&, int64_t, int64_t, int64_t);
  void (*mix)(const OncePass&, const AttentionBlock&, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
};
template <StoredType T>
static const OnceKernels& once_kernels_of(int64_t rows) {
  static const OnceKernels table[] = {
      {once_scores_of<1, T>, once_mix_of<1, T>}, {once_scores_of<2, T>, once_mix_of<2, T>}, {once_scores_of<3, T>, once_mix_of<3, T>},
      {once_scores_of<4, T>, once_mix_of<4, T>},
#if SW_LANES != 8
      {once_scores_of<5, T>, once_mix_of<5, T>}, {once_scores_of<6, T>, once_mix_of<6, T>}, {once_scores_of<7, T>, once_mix_of<7, T>},
      {once_scores_of<8, T>, once_mix_of<8, T>},
#endif
  };
  return table[rows - 1];
}
static const OnceKernels& once_kernels(const OncePass& pass) { return pass.p.type == kHalf ? once_kernels_of<kHalf>(pass.rows) : once_kernels_of<kFloat>(pass.rows); }

static AttentionBlock once_block(const OncePass& pass, int64_t pair) { return attention_block(pass.p, pair / pass.p.kv_heads, pair % pass.p.kv_heads, 0); }

static void once_scores(void* context, int64_t task) {
  const OncePass& pass = *(const OncePass*)context;
  const Attention& p = pass.p;
  const int64_t pair = task / pass.chunks * p.kv_heads, first = task % pass.chunks * pass.chunk_keys, d = p.head_dim;
  const AttentionBlock t = once_block(pass, pair);
  const int64_t keys = t.keys - first < pass.chunk_keys ? t.keys - first : pass.chunk_keys;
  if (pass.rows <= kOnceRows) return once_kernels(pass).scores(pass, t, pair, first, keys);
  for (int64_t h = 0; h < p.kv_heads; h++) {
    const AttentionBlock block = once_block(pass, pair + h);
    int32_t* index_R = (int32_t*)scratch(1, pass.rows * sizeof(int32_t));
    for (int64_t r = 0; r < pass.rows; r++) index_R[r] = (int32_t)block.place(p, r);
    multiply(kNT, false, pass.rows, keys, d, pass.scores + (pair + h) * pass.rows * pass.ld + first, pass.ld, p.q + sequence_start(p, block, d), d, index_R,
             block.k + first * t.ld_k * t.element, t.ld_k, nullptr, {0, 0}, p.type);
  }
}

static void once_softmax(void* context, int64_t task) {
  const OncePass& pass = *(const OncePass*)context;
  const int64_t row = task % pass.rows;
  const AttentionBlock t = once_block(pass, task / pass.rows);
  float max, sum;
  softmax_row(pass.scores + task * pass.ld, t.visible(pass.p, row), t.keys, pass.p.scale, t.bias(pass.p, row), t.sink(pass.p, row), &max, &sum);
  pass.p.lse[sequence_start(pass.p, t, 1) + t.place(pass.p, row)] = max + logf(sum);
  pass.factors[task] = sum > 0 ? 1 / sum : 0;
}

static void once_mix(void* context, int64_t task) {
  const OncePass& pass = *(const OncePass*)context;
  const Attention& p = pass.p;
  const int64_t dv = p.value_dim, index = task / pass.pieces, first = task % pass.pieces * pass.columns;
  const int64_t head = index % pass.heads * pass.task_heads, pair = index / pass.heads * p.kv_heads + head;
  const int64_t heads = p.kv_heads - head < pass.task_heads ? p.kv_heads - head : pass.task_heads;
  const int64_t columns = dv - first < pass.columns ? dv - first : pass.columns, ld_mixed = (columns + kLanes - 1) / kLanes * kLanes;
  const AttentionBlock t = once_block(pass, pair);
  float *mixed = (float*)scratch(1, heads * pass.rows * ld_mixed * sizeof(float)), *out = p.out + sequence_start(p, t, dv) + first;
  if (pass.rows <= kOnceRows) once_kernels(pass).mix(pass, t, pair, heads, first, columns, mixed, ld_mixed);
  for (int64_t h = 0; h < heads; h++) {
    const AttentionBlock block = once_block(pass, pair + h);
    const float* weights = pass.scores + (pair + h) * pass.rows * pass.ld;
    float* result = mixed + h * pass.rows * ld_mixed;
    if (pass.rows > kOnceRows) multiply(kNN, false, pass.rows, columns, t.keys, result, ld_mixed, weights, pass.ld, nullptr, block.v + first * t.element, t.ld_v, nullptr, {0, 0}, p.type);
    for (int64_t r = 0; r < pass.rows; r++) {
      const float factor = pass.factors[(pair + h) * pass.rows + r];
      for (int64_t c = 0; c < columns; c++) out[block.place(p, r) * dv + c] = result[r * ld_mixed + c] * factor;
    }
  }
}

// Worth it for few rows, and for more where the heads alone leave threads without work.
static bool reads_once(const Attention& p) {
  const int64_t rows = p.queries * (p.heads / p.kv_heads);
  if (p.f64 || query_blocks(p) > 1 || p.keys == 0 || p.value_dim == 0) return false;
  return rows <= kOnceRows || (p.batch * p.kv_heads < thread_count() && (double)rows * p.keys * p.head_dim > 2 * kMinTask);
}

static void attention_reading_once(const Attention& p) {
  const AttentionBlock any = attention_block(p, 0, 0, 0);
  const int64_t pairs = p.batch * p.kv_heads, rows = any.rows, d = p.head_dim;
  OncePass pass = {p, rows, any.ld};
  // Two chunks for every thread; longer ones where rows of q are packed for each.
  const int64_t share = (any.keys + 2 * thread_count() - 1) / (2 * thread_count());
  pass.chunk_keys = rows > kOnceRows ? kBlockK : (share + kOnceBlock - 1) / kOnceBlock * kOnceBlock;
  pass.chunks = (any.keys + pass.chunk_keys - 1) / pass.chunk_keys;
  // Some tasks for every thread, of rows long enough for whole DRAM pages.
  int64_t columns = pairs * p.value_dim / (2 * thread_count()) / kPanel * kPanel;
  columns = columns < 2 * kPanel ? 2 * kPanel : columns > 1024 ? 1024 : columns;
  pass.columns = columns < p.value_dim ? columns : p.value_dim;
  pass.pieces = (p.value_dim + pass.columns - 1) / pass.columns;
  pass.task_heads = pass.pieces > 1 ? 1 : columns / p.value_dim;
  pass.heads = (p.kv_heads + pass.task_heads - 1) / pass.task_heads;
  pass.scores = (float*)scratch(0, pairs * rows * (any.ld + 1 + d) * sizeof(float));
  pass.factors = pass.scores + pairs * rows * any.ld;
  pass.q = pass.factors + pairs * rows;
  for (int64_t pair = 0; rows <= kOnceRows && pair < pairs; pair++) {
    const AttentionBlock t = once_block(pass, pair);
    for (int64_t r = 0; r < rows; r++) {
      const float* q = p.q + sequence_start(p, t, d) + t.place(p, r) * d;
      for (int64_t c = 0; c < d; c++) pass.q[(pair * d + c) * rows + r] = q[c];
    }
  }
  parallel_for(p.batch * pass.chunks, once_scores, &pass);
  parallel_for(pairs * rows, once_softmax, &pass);
  parallel_for(p.batch * pass.heads * pass.pieces, once_mix, &pass);
}

static void attention(const Attention& p) {
  if (reads_once(p)) return attention_reading_once(p);
  parallel_for(p.batch * p.kv_heads * query_blocks(p), attention_task, (void*)&p);
}
