// Tiles of nt with rows of `a` in the lanes: each weight is broadcast as it is read, so that nothing of b is packed or transposed.

// Columns of the result at once: as many rows of b, which share one set of the L1 where they are a multiple of 4 KiB apart.
constexpr int kBroadcast = kLanes / 2;
// Rows of one tile.
constexpr int kLaneRows = 2 * kLanes;

// out[m of VECTORS * kLanes][kBroadcast] (+)= a[k][VECTORS][kLanes]^T times kBroadcast rows of b. `ask`: where what is read next begins.
template <int VECTORS, bool PAIRS>
static void multiply_lanes(const float* a, const float* const* rows, int64_t k, float* out, int64_t ld_out, int64_t m, bool add, const float* ask) {
  vf sum[VECTORS][kBroadcast];
  SW_UNROLL for (int v = 0; v < VECTORS; v++) {
    SW_UNROLL for (int c = 0; c < kBroadcast; c++) sum[v][c] = splat(0);
  }
  // The halves of rows r and kLanes + r side by side: these vectors and the columns are each other's transposition.
  if (add) {
    const auto half = [&](int64_t r) { return r < m ? *(const vh*)(out + r * ld_out) : (vh){}; };
    transpose_vectors([&](int r) { return join(half(r), VECTORS == 2 ? half(kLanes + r) : (vh){}); }, [&](int i, vf x) {
      if (i < VECTORS * kBroadcast) sum[i / kBroadcast][i % kBroadcast] = x;
    });
  }
  const float* b[kBroadcast];
  SW_UNROLL for (int c = 0; c < kBroadcast; c++) b[c] = rows[c];
  const auto step = [&](int64_t i) {
    vf x[VECTORS];
    SW_UNROLL for (int v = 0; v < VECTORS; v++) x[v] = load(a + v * kLanes);
    SW_UNROLL for (int c = 0; c < kBroadcast; c++) {
      const vf weight = splat(b[c][i]);
      SW_UNROLL for (int v = 0; v < VECTORS; v++) sum[v][c] = add_product<PAIRS>(sum[v][c], x[v], weight);
    }
    a += VECTORS * kLanes;
  };
  int64_t at = 0;
  for (; at + 16 <= k; at += 16, ask += 16 * kBroadcast) {
    SW_UNROLL for (int i = 0; i < 16; i++) {
      if (i < kBroadcast) __builtin_prefetch(ask + i * 16, 0, 2);
      else if (i < 2 * kBroadcast) __builtin_prefetch(ask + (i - kBroadcast) * 16 + kAskAgain, 0, 2);
      step(at + i);
    }
  }
  for (; at < k; at++) step(at);
  transpose_vectors([&](int i) { return i < VECTORS * kBroadcast ? sum[i / kBroadcast % VECTORS][i % kBroadcast] : splat(0); }, [&](int r, vf x) {
    if (r < m) *(vh*)(out + r * ld_out) = lower(x);
    if (VECTORS == 2 && kLanes + r < m) *(vh*)(out + (kLanes + r) * ld_out) = upper(x);
  });
}

// The same for n <= kBroadcast columns.
template <int VECTORS, bool PAIRS>
static void multiply_lane_tile(const float* a, const float* const* rows, int64_t k, float* out, int64_t ld_out, int64_t m, int64_t n, bool add, const float* ask) {
  if (n == kBroadcast) return multiply_lanes<VECTORS, PAIRS>(a, rows, k, out, ld_out, m, add, ask);
  float edge[VECTORS * kLanes * kBroadcast];
  for (int64_t r = 0; add && r < m; r++) memcpy(edge + r * kBroadcast, out + r * ld_out, n * sizeof(float));
  multiply_lanes<VECTORS, PAIRS>(a, rows, k, edge, kBroadcast, m, add, ask);
  for (int64_t r = 0; r < m; r++) memcpy(out + r * ld_out, edge + r * kBroadcast, n * sizeof(float));
}

// Rows of the next tile, of `rows` that are left, some of them empty; 0: a transposition costs less than the empty ones.
static int lane_tile(int64_t rows) {
  if (kLanes == 16) return rows <= 12 || (rows > 16 && rows <= 20) ? 0 : rows <= 28 ? 16 : 32;
  return kLanes == 8 && rows > 8 ? 16 : 0;
}
