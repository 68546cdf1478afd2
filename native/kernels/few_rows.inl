// Products in which each weight meets a few rows only, as experts have them: bound by memory or by packing, so nothing that is large is packed. Weights
// are transposed in registers or broadcast (nt), or multiplied as they lie (nn), gradients written past the caches (tn). The chains are those of the
// micro-kernel.

// Rows that read unpacked weights, again from the L2 or the L1, at less cost than packing them (of tn: steps).
constexpr int64_t kFewRows = 2 * kTileRows, kFewOfNT = kLanes >= 8 ? 96 : kFewRows, kFewOfNN = kLanes == 16 ? 72 : kFewRows;
// Floats of b that tn packs whole, a part of the L2.
constexpr int64_t kFewPacked = 1 << 16;

// Floats between what is asked for and what is asked for a second time: the CPU drops requests that it has no room for, and the second one finds most of those.
constexpr int64_t kAskAgain = 8192;

#include "lanes.inl"

// Rows that wait for memory rather than for their multiplications: these ask for what is read after what is read next, as one row does.
constexpr int kWaitingRows = 4;

// out[MR][n] (+)= a[k / kLanes][MR][kLanes] times the `rows` of b, kLanes, of which the first n count. `ask`, `again`: what is asked for.
template <int MR, bool PAIRS>
static void multiply_transposed(const float* a, const float* const* rows, int64_t k, float* out, int64_t ld_out, int64_t n, bool add, const float* ask, const float* again) {
  constexpr bool kWaits = MR <= kWaitingRows;
  vf sum[MR];
  SW_UNROLL for (int m = 0; m < MR; m++) sum[m] = add ? load(out + m * ld_out, n) : splat(0);
  int64_t at = 0;
  for (; at + kLanes <= k; at += kLanes, a += MR * kLanes, ask += kLanes * kLanes, again += kLanes * kLanes) {
    vf quads[4][kLanes / 4];
    SW_UNROLL for (int j = 0; j < 4; j++) {
      const float* from[kLanes / 4];
      SW_UNROLL for (int l = 0; l < kLanes / 4; l++) {
        const int r = 4 * l + j;
        __builtin_prefetch(ask + r * kLanes, 0, 2);
        if (kWaits) __builtin_prefetch(again + r * kLanes, 0, 2);
        from[l] = rows[r] + at;
      }
      if (kWaits && k > kShortRow) {
        SW_UNROLL for (int l = 0; l < kLanes / 4; l++) quads[j][l] = load(from[l]);
        transpose_quads(quads[j]);
      } else {
        load_quads(quads[j], from);
      }
    }
    transpose_within(quads, [&](int i, vf x) {
      if (!kWaits) __builtin_prefetch(again + i * kLanes, 0, 2);
      SW_UNROLL for (int m = 0; m < MR; m++) sum[m] = add_product<PAIRS>(sum[m], splat(a[m * kLanes + i]), x);
    });
  }
  for (int64_t i = 0; at + i < k; i++) {
    vf x;
    for (int r = 0; r < kLanes; r++) x[r] = load_partial(rows[r] + at + i, 1, 0)[0];
    SW_UNROLL for (int m = 0; m < MR; m++) sum[m] = add_product<PAIRS>(sum[m], splat(a[m * kLanes + i]), x);
  }
  SW_UNROLL for (int m = 0; m < MR; m++) store(out + m * ld_out, sum[m], n);
}

// c[MR][kPanel] (+)= a[steps][MR of kLanes]^T b[steps][kPanel], rows of b ld_b apart. At each step a panel is asked for at `ask`, which moves on by `ask_step`.
template <int MR>
static void multiply_unpacked(const float* a, const float* b, int64_t ld_b, int64_t steps, float* c, int64_t ldc, bool add, const float* ask, int64_t ask_step) {
  vf sum[MR][2];
  SW_UNROLL for (int i = 0; i < MR; i++) {
    sum[i][0] = add ? load(c + i * ldc) : splat(0);
    sum[i][1] = add ? load(c + i * ldc + kLanes) : splat(0);
  }
  for (; steps > 0; steps--, a += kLanes, b += ld_b, ask += ask_step) {
    for (int v = 0; v < kPanel; v += 16) {
      __builtin_prefetch(ask + v, 0, 2);
      __builtin_prefetch(ask + v + kAskAgain, 0, 2);
      __builtin_prefetch(b + kPanel + v, 0, 2);  // of the next panel, if it is still missing
    }
    const vf b0 = load(b), b1 = load(b + kLanes);
    SW_UNROLL for (int i = 0; i < MR; i++) {
      const vf x = splat(a[i]);
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
  }
  __asm__("" : "+r"(c), "+r"(ldc));  // as in the micro-kernel
  SW_UNROLL for (int i = 0; i < MR; i++) {
    store(c + i * ldc, sum[i][0]);
    store(c + i * ldc + kLanes, sum[i][1]);
  }
}

// c[MR][columns] (+)= a[steps][MR of kTileRows]^T b[columns / kPanel][steps][kPanel]; `past`: written past the caches; `squares`: as in Product.
template <int MR>
static void multiply_panels(const float* a, const float* b, int64_t steps, float* c, int64_t ldc, int64_t columns, bool add, bool past, float* squares) {
  for (; columns > 0; columns -= kPanel, c += kPanel) {
    vf sum[MR][2];
    SW_UNROLL for (int i = 0; i < MR; i++) {
      sum[i][0] = add ? load(c + i * ldc) : splat(0);
      sum[i][1] = add ? load(c + i * ldc + kLanes) : splat(0);
    }
    for (int64_t k = 0; k < steps; k++, b += kPanel) {
      for (int v = 0; !past && k < MR && v < kPanel; v += 16) __builtin_prefetch(c + k * ldc + kPanel + v, 1, 3);
      const vf b0 = load(b), b1 = load(b + kLanes);
      SW_UNROLL for (int i = 0; i < MR; i++) {
        const vf x = splat(a[k * kTileRows + i]);
        sum[i][0] += x * b0;
        sum[i][1] += x * b1;
      }
    }
    if (squares) *squares++ = tile_squares<MR>(sum);
    SW_UNROLL for (int i = 0; i < MR; i++) {
      if (past) store_past(c + i * ldc, sum[i][0]), store_past(c + i * ldc + kLanes, sum[i][1]);
      else store(c + i * ldc, sum[i][0]), store(c + i * ldc + kLanes, sum[i][1]);
    }
  }
}

// Whether a block of `rows` (of the reduction in tn) is computed here. An update reads more than the weights: that is asked for with panels only.
static bool has_few_rows(const Product& p, int64_t rows, int64_t columns) {
  if (rows > (p.form == kNT && !p.update ? kFewOfNT : p.form == kNN ? kFewOfNN : kFewRows) || p.type != kFloat || p.causal.group > 0 || (p.form != kTN && p.rows_b)) return false;
  if (p.form == kNT) return p.ld_b == p.k * (int64_t)sizeof(float);
  return p.n % kPanel == 0 && (p.form == kNN || p.k * columns <= kFewPacked);
}

// Tiles with rows in the lanes, then those of rows that are left, for kLanes columns after the other.
template <bool PAIRS>
static void few_nt(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const Block* next) {
  static void (*const table[])(const float*, const float* const*, int64_t, float*, int64_t, int64_t, bool, const float*, const float*) = {SW_ROWS(multiply_transposed, PAIRS)};
  const int64_t k = (p.k + kLanes - 1) / kLanes * kLanes;
  float *const packed = (float*)scratch(2, (i1 - i0 + kLaneRows) * k * sizeof(float)), *to = packed;
  int64_t rest = i0;
  for (int tile; (tile = lane_tile(i1 - rest)) > 0; rest += tile, to += tile * k) {
    for (int v = 0; v < tile; v += kLanes) {
      const float* pointers[kLanes];
      for (int r = 0; r < kLanes; r++) pointers[r] = p.row_a(rest + v + r < i1 ? rest + v + r : rest);
      pack_transposed<kF32>(to + v, tile, pointers, p.k);
    }
  }
  const Tiles tiles = {i1 - rest, (i1 - rest + kTileRows - 1) / kTileRows};
  const float* const packed_rest = to;
  for (int64_t t = 0; t < tiles.count; t++) {
    for (int64_t at = 0; at < p.k; at += kLanes) {
      for (int64_t m = 0; m < tiles.size(t); m++, to += kLanes) store(to, load_partial(p.row_a(rest + tiles.start(t) + m) + at, p.k - at < kLanes ? p.k - at : kLanes, 0));
    }
  }
  for (int64_t j = j0; j < j1; j += kLanes) {
    const int64_t columns = j1 - j < kLanes ? j1 - j : kLanes;
    const float* rows[kLanes];
    const auto after = [&](int64_t ahead) { return (const float*)columns_after(p, j, ahead, j1, next ? next->p.stored_row(next->j0) : p.stored_row(j0)); };
    const float *const ask = after(kLanes), *const again = i1 - i0 <= kWaitingRows ? after(2 * kLanes) : ask + kAskAgain;
    for (int r = 0; r < kLanes; r++) rows[r] = p.row_b(r < columns ? j + r : j);
    if (p.update) update_columns(p, j, columns, 0, p.k);
    for (int64_t c = 0; c < columns; c += kBroadcast) {
      const float* a = packed;
      for (int64_t i = i0, tile; i < rest; i += tile, a += tile * k) {
        tile = lane_tile(i1 - i);
        const auto run = tile == kLanes ? multiply_lane_tile<1, PAIRS> : multiply_lane_tile<2, PAIRS>;
        run(a, rows + c, p.k, p.out + i * p.ld_out + j + c, p.ld_out, i1 - i < tile ? i1 - i : tile, columns - c < kBroadcast ? columns - c : kBroadcast, p.accumulate, ask + c * p.k);
      }
    }
    for (int64_t t = 0; t < tiles.count; t++) {
      const int64_t first = tiles.start(t);
      table[tiles.size(t) - 1](packed_rest + first * k, rows, p.k, p.out + (rest + first) * p.ld_out + j, p.ld_out, columns, p.accumulate, ask, again);
    }
  }
}

// Steps of nn between two visits of a result: the fewer, the nearer to each other are the rows of b that are read; the more, the less often the result is.
static int64_t steps_of_nn(int64_t rows) { return rows <= 6 ? 32 : rows <= 12 ? 64 : 256; }

static void few_nn(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const Block* next) {
  static void (*const table[])(const float*, const float*, int64_t, int64_t, float*, int64_t, bool, const float*, int64_t) = {SW_ROWS(multiply_unpacked)};
  const Tiles tiles = {i1 - i0, (i1 - i0 + kTileRows - 1) / kTileRows};
  const int64_t ld_b = p.ld_b / sizeof(float);
  const bool whole_rows = j1 - j0 == ld_b;  // which follow each other in memory
  const int64_t most = steps_of_nn(i1 - i0);
  float* const packed = (float*)scratch(2, tiles.count * most * kLanes * sizeof(float));
  for (int64_t k0 = 0; k0 < p.k; k0 += most) {
    const int64_t steps = p.k - k0 < most ? p.k - k0 : most;
    for (int64_t t = 0; t < tiles.count; t++) {
      const float* pointers[kLanes];
      for (int r = 0; r < kLanes; r++) pointers[r] = p.row_a(i0 + tiles.start(t) + (r < tiles.size(t) ? r : 0)) + k0;
      pack_transposed<kF32>(packed + t * most * kLanes, kLanes, pointers, steps);
    }
    const float* b = p.row_b(k0) + j0;
    const int64_t ahead = k0 + most < p.k ? most * ld_b : next ? (const float*)next->p.b + next->j0 - b : 0;
    for (int64_t j = j0; j < j1; j += kPanel) {
      for (int64_t t = 0; t < tiles.count; t++) {
        table[tiles.size(t) - 1](packed + t * most * kLanes, b + j - j0, ld_b, steps, p.out + (i0 + tiles.start(t)) * p.ld_out + j, p.ld_out, p.accumulate || k0 > 0,
                                 b + ahead + (whole_rows ? (j - j0) * steps : j - j0), whole_rows ? kPanel : ld_b);
      }
    }
  }
}

// All of b is packed, then each tile of the result's rows is written from left to right.
static void few_tn(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  static void (*const table[])(const float*, const float*, int64_t, float*, int64_t, int64_t, bool, bool, float*) = {SW_ROWS(multiply_panels)};
  const Tiles tiles = block_tiles(p, i0, i1);
  const int64_t tile = tile_floats(p.k);
  float* const packed_b = (float*)scratch(2, (kTogether * tile + p.k * (j1 - j0)) * sizeof(float));
  float* const packed_a = packed_b + p.k * (j1 - j0);
  const bool past = writes_past(p);
  for (int64_t j = j0; j < j1; j += kPanel) pack_b<kF32>(packed_b + (j - j0) * p.k, nullptr, p, j, kPanel, 0, p.k);
  for (int64_t t = 0; t < tiles.count; t++) {
    if (t % kTogether == 0) pack_a<kF32>(packed_a, tile, p, i0, tiles, t, t + kTogether < tiles.count ? t + kTogether : tiles.count, 0, p.k);
    table[tiles.size(t) - 1](packed_a + t % kTogether * tile, packed_b, p.k, p.out + (i0 + tiles.start(t)) * p.ld_out + j0, p.ld_out, j1 - j0, p.accumulate, past, squares_of(p, i0 + tiles.start(t), j0));
  }
  if (past) finish_past();
}

template <bool PAIRS>
static void few_rows_block(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const Block* next) {
  if (p.form == kNT) few_nt<PAIRS>(p, i0, i1, j0, j1, next);
  else if (p.form == kNN) few_nn(p, i0, i1, j0, j1, next);
  else few_tn(p, i0, i1, j0, j1);
}
