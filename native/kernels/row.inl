// One row times a matrix in form nt, bound by memory: columns are multiplied as they are transposed, with no packed panel between. The chains are those
// of the micro-kernel.

// Bytes are asked for in the order in which they lie, and so many times, kLanes columns ahead, twice that and so on: this memory drops requests when it
// has too many (docs/lab-notebook.md). With AVX2, where instructions are short, once less is faster.
constexpr int kRequests = SW_LANES == 8 ? 2 : 3;
// What a cache may hold is read sooner from there by halves of vectors, and asked for only twice: rows of so few floats, which are those of small models, and
// keys of f32. From memory, on one thread, that is slower by up to a tenth.
constexpr int kFewRequests = 2;
constexpr int64_t kShortRow = 256;

// Where columns j + `ahead` of a block that ends at j1 are; beyond it, those of what this thread may read next.
SW_INLINE const char* columns_after(const Product& p, int64_t j, int64_t ahead, int64_t j1, const char* next) {
  return j + ahead < j1 ? p.stored_row(j + ahead) : next + (j + ahead - j1) % ahead * p.ld_b;
}

// sum + the products of a with the elements of kLanes rows, a vector of each (of pairs of half width, or of PAIRS as those of a).
template <bool HALVES, bool PAIRS, bool SHORT>
SW_INLINE vf add_products(vf sum, const float* a, const char* const* rows, int64_t offset, StoredType type) {
  const auto give = [&](int i, vf x) {
    if (!HALVES) {
      sum = add_product<PAIRS>(sum, splat(a[i]), x);
      return;
    }
    sum += splat(a[2 * i]) * low_half((vu)x, type);
    sum += splat(a[2 * i + 1]) * high_half((vu)x, type);
  };
  if (SHORT) transpose_loaded(rows, offset, give);
  else transpose_vectors([&](int r) { return load(rows[r] + offset); }, give);
  return sum;
}

// Columns [j0, j1) of row i; `next`: what this thread may read after them.
template <StoredType T, bool PAIRS = false, bool SHORT = false>
static void row_block(const Product& p, int64_t i, int64_t j0, int64_t j1, const char* next) {
  constexpr int64_t step = T == kFloat ? kLanes : 2 * kLanes;
  constexpr int requests = SHORT ? kFewRequests : kRequests;
  const int64_t whole = p.k / step * step, left = p.k - whole;
  const float* a = p.row_a(i);
  float* out = p.out + i * p.ld_out;
  for (int64_t j = j0; j < j1; j += kLanes) {
    const char* rows[kLanes];
    for (int r = 0; r < kLanes; r++) rows[r] = p.stored_row(j + r < j1 ? j + r : j);
    vf sum = p.accumulate ? load(out + j, j1 - j) : splat(0);
    const char* ahead[requests];
    for (int i = 0; i < requests; i++) ahead[i] = columns_after(p, j, (i + 1) * kLanes, j1, next);
    for (int64_t k = 0; k < whole; k += step) {
      SW_UNROLL for (int64_t at = 0; at < kLanes * kLanes * 4; at += 64) {
        SW_UNROLL for (int i = 0; i < requests; i++) __builtin_prefetch(ahead[i] + (kLanes * row_bytes(T, k) + at), 0, 2);
      }
      sum = add_products<T != kFloat, PAIRS, SHORT>(sum, a + k, rows, row_bytes(T, k), T);
    }
    float rest[kLanes][2 * kLanes];
    for (int r = 0; left > 0 && r < kLanes; r++) {
      const char* from = rows[r] + row_bytes(T, whole);
      if (T == kFloat) memcpy(rest[r], from, left * sizeof(float));
      else widen(rest[r], from, T, left);
    }
    for (int64_t k = 0; k < left; k++) {
      vf x;
      for (int r = 0; r < kLanes; r++) x[r] = rest[r][k];
      sum = add_product<PAIRS>(sum, splat(a[whole + k]), x);
    }
    store(out + j, sum, j1 - j);
  }
}

// The same with 8-bit floats.
template <StoredType T>
static void fp8_row_block(const Product& p, int64_t i, int64_t j0, int64_t j1, const char* next) {
  const float* a = p.row_a(i);
  float* out = p.out + i * p.ld_out;
  for (int64_t j = j0; j < j1; j += kPanel) {
    const char* rows[kPanel];
    for (int r = 0; r < kPanel; r++) rows[r] = p.stored_row(j + r < j1 ? j + r : j);
    const int64_t second = j1 - j > kLanes ? j1 - j - kLanes : 0;
    vf sum[2] = {p.accumulate ? load(out + j, j1 - j) : splat(0), p.accumulate ? load(out + j + kLanes, second) : splat(0)};
    const char* ahead[kRequests];
    for (int i = 0; i < kRequests; i++) ahead[i] = columns_after(p, j, (i + 1) * kPanel, j1, next);
    for (int64_t k = 0; k < p.k; k += kFp8Block) {
      for (int64_t at = kPanel * row_bytes(T, k); at < kPanel * row_bytes(T, k + kFp8Block); at += 64) {
        for (int i = 0; i < kRequests; i++) __builtin_prefetch(ahead[i] + at, 0, 2);
      }
      each_fp8<T, 2>(rows, [&](int64_t i, int g, vf x) { sum[g] += splat(a[k + i]) * x; });
      for (int r = 0; r < kPanel; r++) rows[r] += row_bytes(T, kFp8Block);
    }
    store(out + j, sum[0], j1 - j);
    store(out + j + kLanes, sum[1], second);
  }
}
