// Sums in double precision. The products of floats are exact there, so that a sum is the true one but for the rounding of its result.

typedef double vd __attribute__((vector_size(SW_LANES * 4), aligned(8), may_alias));
typedef float vh __attribute__((vector_size(SW_LANES * 2), aligned(4), may_alias));
constexpr int kDoubles = kLanes / 2;

SW_INLINE vd load_wide(const float* p) { return __builtin_convertvector(*(const vh*)p, vd); }
// Of which `n` are left.
SW_INLINE vd load_wide(const float* p, int64_t n) {
  if (n >= kDoubles) return load_wide(p);
  float lanes[kDoubles] = {};
  for (int64_t i = 0; i < n; i++) lanes[i] = p[i];
  return load_wide(lanes);
}
SW_INLINE void store_narrow(float* p, vd x, int64_t n) {
  const vh narrow = __builtin_convertvector(x, vh);
  if (n >= kDoubles) *(vh*)p = narrow;
  else memcpy(p, &narrow, n * sizeof(float));
}

SW_INLINE double sum_wide(vd x) {
  double sum[kDoubles];
  memcpy(sum, &x, sizeof x);
  for (int half = kDoubles / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) sum[i] += sum[i + half];
  }
  return sum[0];
}

// out[R][C] (+)= a[R][k] b[C][k]^T.
template <int R, int C>
SW_INLINE void dots(const float* const* a, const float* b, int64_t ld_b, int64_t k, float* out, int64_t ld_out, bool accumulate) {
  vd sum[R][C] = {};
  for (int64_t i = 0; i < k; i += kDoubles) {
    vd x[R];
    SW_UNROLL for (int r = 0; r < R; r++) x[r] = load_wide(a[r] + i, k - i);
    SW_UNROLL for (int c = 0; c < C; c++) {
      const vd y = load_wide(b + c * ld_b + i, k - i);
      SW_UNROLL for (int r = 0; r < R; r++) sum[r][c] += x[r] * y;
    }
  }
  for (int r = 0; r < R; r++) {
    for (int c = 0; c < C; c++) {
      const double s = sum_wide(sum[r][c]);
      out[r * ld_out + c] = (float)(accumulate ? out[r * ld_out + c] + s : s);
    }
  }
}

// out[m][n] (+)= a[m][k] b[n][k]^T; row i of a is rows_a[i], if that is given.
static void double_product(int64_t m, int64_t n, int64_t k, float* out, int64_t ld_out, const float* a, int64_t ld_a, const int32_t* rows_a,
                           const float* b, int64_t ld_b, bool accumulate) {
  constexpr int kR = 4, kC = SW_LANES == 16 ? 4 : 2;
  for (int64_t i = 0; i < m; i += kR) {
    const float* rows[kR];
    for (int r = 0; r < kR && i + r < m; r++) rows[r] = a + (rows_a ? rows_a[i + r] : i + r) * ld_a;
    for (int64_t j = 0; j < n;) {
      float* to = out + i * ld_out + j;
      if (i + kR <= m && j + kC <= n) {
        dots<kR, kC>(rows, b + j * ld_b, ld_b, k, to, ld_out, accumulate);
        j += kC;
        continue;
      }
      for (int r = 0; r < kR && i + r < m; r++) dots<1, 1>(rows + r, b + j * ld_b, ld_b, k, to + r * ld_out, ld_out, accumulate);
      j++;
    }
  }
}

// Columns of a task: their rows of b stay in the caches for all rows of a.
constexpr int64_t kDoubleColumns = 32;

static void double_matmul(const Matmul& p) {
  parallel_blocks(p.n, kDoubleColumns, [&](int64_t first, int64_t last) {
    double_product(p.m, last - first, p.k, p.out + first, p.ld_out, p.a, p.k, nullptr, (const float*)p.b + first * p.k, p.k, p.accumulate);
  });
}
