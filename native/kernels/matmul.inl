// Matrix products. Every element of the result is one chain of multiply-adds in rising k, whatever the blocking: so it has the same bits
// in a batch and alone, on one thread and on many, grouped and not. Layout: the rows of a task's block of `a` are packed in tiles of
// up to kTileRows for kBlockK steps (L2), then panels of kPanel columns of `b` are packed one after the other (L1) and
// multiplied with every tile.

constexpr int kTileRows = SW_LANES == 16 ? 12 : SW_LANES == 8 ? 6 : 4;
constexpr int kPanel = 2 * kLanes;
constexpr int64_t kBlockK = 256;
// Rows of `a` in one task: their packed block takes half of a common L2 (512 KiB to 1 MiB).
constexpr int64_t kMaxRows = 384;

// What the micro-kernel asks for while it multiplies: kLinesPerStep cache lines at `at`, which moves by `step` bytes, and by `wrap` more
// every kStepsPerRow steps; a step of pairs asks for as many lines again `second` bytes further on. Spread over the steps, the reads of
// the next panel cost nothing; asked for at once, they stall. Passed by pointer: an argument on the stack is a store that waits behind the
// missing stores of the last tile.
struct Ahead {
  const char* at;
  int64_t step, wrap, second;
};
constexpr int kLinesPerStep = kPanel / 16 > 0 ? kPanel / 16 : 1;
constexpr int kStepsPerRow = kBlockK / 16 / kLinesPerStep;  // of f32; half of them for pairs, twice the lines

// c[MR][kPanel] = a[steps][MR of kLanes]^T b[steps][kPanel] (+ c).
template <int MR, bool PAIRS>
static void micro(int64_t steps, const float* a, const float* b, int64_t ldb, float* c, int64_t ldc, bool add, const Ahead* next) {
  Ahead ahead = *next;
  vf sum[MR][2];
  SW_UNROLL for (int i = 0; i < MR; i++) {
    sum[i][0] = add ? load(c + i * ldc) : splat(0);
    sum[i][1] = add ? load(c + i * ldc + kLanes) : splat(0);
  }
  for (; steps > 0; steps--, a += kLanes, b += ldb) {
    const vf b0 = load(b), b1 = load(b + kLanes);
    SW_UNROLL for (int l = 0; l < kLinesPerStep; l++) {
      __builtin_prefetch(ahead.at + 64 * l, 0, 2);
      if (PAIRS) __builtin_prefetch(ahead.at + ahead.second + 64 * l, 0, 2);
    }
    ahead.at += ahead.step + (steps % (kStepsPerRow / (PAIRS ? 2 : 1)) == 0 ? ahead.wrap : 0);
    SW_UNROLL for (int i = 0; i < MR; i++) {
      const vf x = splat(a[i]);
#ifdef __AVX512BF16__
      if (PAIRS) {
        sum[i][0] = (vf)_mm512_dpbf16_ps((__m512)sum[i][0], (__m512bh)x, (__m512bh)b0);
        sum[i][1] = (vf)_mm512_dpbf16_ps((__m512)sum[i][1], (__m512bh)x, (__m512bh)b1);
        continue;
      }
#endif
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
  }
  __asm__("" : "+r"(c), "+r"(ldc));  // addresses of rows are computed again, not kept in spilled registers across the loop
  SW_UNROLL for (int i = 0; i < MR; i++) {
    store(c + i * ldc, sum[i][0]);
    store(c + i * ldc + kLanes, sum[i][1]);
  }
}

using Micro = void (*)(int64_t, const float*, const float*, int64_t, float*, int64_t, bool, const Ahead*);

template <bool PAIRS>
SW_INLINE Micro micro_for(int rows) {
  static const Micro table[] = {
      micro<1, PAIRS>, micro<2, PAIRS>, micro<3, PAIRS>, micro<4, PAIRS>,
#if SW_LANES >= 8
      micro<5, PAIRS>, micro<6, PAIRS>,
#endif
#if SW_LANES == 16
      micro<7, PAIRS>, micro<8, PAIRS>, micro<9, PAIRS>, micro<10, PAIRS>, micro<11, PAIRS>, micro<12, PAIRS>,
#endif
  };
  return table[rows - 1];
}

// Packs `length` steps of a block of a from row i and step k0 on: tile t at dst + t * kBlockK * kLanes, [steps][kLanes].
template <Packing P>
static void pack_a(float* dst, const Product& p, int64_t i, const Tiles& tiles, int64_t k0, int64_t length) {
  constexpr int kTogether = 4;  // of tn: tiles packed in one pass over the rows of a, which then uses whole cache lines
  for (int64_t t = 0; t < tiles.count; t += p.form == kTN ? kTogether : 1, dst += kBlockK * kLanes * (p.form == kTN ? kTogether : 1)) {
    if (p.form == kTN) {
      int64_t start[kTogether], width[kTogether];
      float* to[kTogether];
      int vectors = 0;
      for (; vectors < kTogether && t + vectors < tiles.count; vectors++) {
        start[vectors] = i + tiles.start(t + vectors);
        width[vectors] = tiles.size(t + vectors);
        to[vectors] = dst + vectors * kBlockK * kLanes;
      }
      pack_copied<P>(vectors, to, kLanes, start, width, length, [&](int64_t k) { return p.row_a(k0 + k); });
    } else {
      const float* pointers[kLanes];
      const int64_t start = i + tiles.start(t), rows = tiles.size(t);
      for (int r = 0; r < kLanes; r++) pointers[r] = p.row_a(start + (r < rows ? r : 0)) + k0;
      pack_transposed<P>(dst, kLanes, pointers, length);
    }
  }
}

// Packs columns [j, j + columns) of b's result side: [steps][kPanel], zero beyond `columns`. `wide` has room for kLanes * kBlockK floats,
// which rows of half width are widened to.
template <Packing P>
static void pack_b(float* dst, float* wide, const Product& p, int64_t j, int64_t columns, int64_t k0, int64_t length) {
  const int64_t second = columns > kLanes ? columns - kLanes : 0;
  if (p.form == kNT) {
    for (int half = 0; half < kPanel; half += kLanes) {
      const float* pointers[kLanes];
      for (int r = 0; r < kLanes; r++) {
        const int64_t row = j + (half + r < columns ? half + r : 0);
        pointers[r] = p.row_b(row) + k0;
        if (p.type == kFloat) continue;
        pointers[r] = wide + r * kBlockK;
        widen(wide + r * kBlockK, p.stored_row(row) + 2 * k0, p.type, length);
      }
      pack_transposed<P>(dst + half, kPanel, pointers, length);
    }
  } else {
    float* const to[2] = {dst, dst + kLanes};
    const int64_t start[2] = {j, second ? j + kLanes : j}, width[2] = {columns - second, second};
    pack_copied<P>(2, to, kPanel, start, width, length, [&](int64_t k) { return p.row_b(k0 + k); });
  }
}

// The part of b that pack_b will read for the panel at column j and step k0, unless its rows are gathered.
template <Packing P>
SW_INLINE Ahead panel_ahead(const Product& p, int64_t j, int64_t k0) {
  constexpr int64_t per_step = P == kPairs ? 2 : 1;
  const int64_t row = p.ld_b, block = kBlockK * sizeof(float), lines = 64 * kLinesPerStep;
  if (p.form == kNT) return {(const char*)(p.row_b(j) + k0), lines * per_step, row - block, lines};
  return {(const char*)(p.row_b(k0) + j), row * per_step, 0, row};
}

// The same for gathered rows: one of `parts` slices.
SW_INLINE void prefetch_gathered(const Product& p, int64_t j, int64_t k0, int64_t length, int64_t part, int64_t parts) {
  for (int64_t k = length * part / parts; k < length * (part + 1) / parts; k++) {
    for (int v = 0; v < kPanel; v += 16) __builtin_prefetch(p.row_b(k0 + k) + j + v, 0, 2);
  }
}

SW_INLINE void prefetch_tile(const float* c, int64_t ldc, int64_t rows) {
  for (int64_t i = 0; i < rows; i++) {
    for (int v = 0; v < kPanel; v += 16) __builtin_prefetch(c + i * ldc + v, 1, 3);
  }
}

// Rows [i0, i1) and columns [j0, j1) of a product.
template <Packing P>
static void product_block(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  const Tiles tiles = {i1 - i0, (i1 - i0 + kTileRows - 1) / kTileRows};
  if (p.k == 0 && !p.accumulate) {
    for (int64_t i = i0; i < i1; i++) memset(p.out + i * p.ld_out + j0, 0, (j1 - j0) * sizeof(float));
  }
  float* const packed_b = (float*)scratch(2, kBlockK * (kPanel + (tiles.count + 1) * kLanes) * sizeof(float));
  const Ahead nothing = {(const char*)packed_b, 0, 0, 0};
  float* const packed_a = packed_b + kBlockK * kPanel;
  for (int64_t k0 = 0; k0 < p.k; k0 += kBlockK) {
    const int64_t length = p.k - k0 < kBlockK ? p.k - k0 : kBlockK;
    const int64_t steps = P == kPairs ? (length + 1) / 2 : length;
    const bool add = p.accumulate || k0 > 0;
    pack_a<P>(packed_a, p, i0, tiles, k0, length);
    for (int64_t j = j0; j < j1; j += kPanel) {
      const int64_t columns = j1 - j < kPanel ? j1 - j : kPanel;
      pack_b<P>(packed_b, packed_a + tiles.count * kBlockK * kLanes, p, j, columns, k0, length);
      const bool last = j + kPanel >= j1;
      Ahead next = nothing;
      if (p.rows_b == nullptr && p.type == kFloat && !(last && k0 + kBlockK >= p.k)) next = panel_ahead<P>(p, last ? j0 : j + kPanel, last ? k0 + kBlockK : k0);
      for (int64_t t = 0; t < tiles.count; t++) {
        const int64_t tile_rows = tiles.size(t);
        const Micro run = micro_for<P == kPairs>(tile_rows);
        const float* a = packed_a + t * kBlockK * kLanes;
        float* c = p.out + (i0 + tiles.start(t)) * p.ld_out + j;
        if (t + 1 < tiles.count) prefetch_tile(c + tile_rows * p.ld_out, p.ld_out, tiles.size(t + 1));
        if (p.rows_b != nullptr && !last) prefetch_gathered(p, j + kPanel, k0, length, t, tiles.count);
        const Ahead* ahead = t == 0 ? &next : &nothing;
        if (columns == kPanel) {
          run(steps, a, packed_b, kPanel, c, p.ld_out, add, ahead);
        } else {
          float edge[kTileRows * kPanel];
          for (int64_t i = 0; add && i < tile_rows; i++) memcpy(edge + i * kPanel, c + i * p.ld_out, columns * sizeof(float));
          run(steps, a, packed_b, kPanel, edge, kPanel, add, ahead);
          for (int64_t i = 0; i < tile_rows; i++) memcpy(c + i * p.ld_out, edge + i * kPanel, columns * sizeof(float));
        }
      }
    }
  }
}

// Products of f32, bfloat16 pairs where the CPU multiplies them (vdpbf16ps adds the odd product, then the even one), rounded floats elsewhere.
static void float_matmul(const Matmul& p) {
#ifdef __AVX512BF16__
  const auto bf16 = product_block<kPairs>;
#else
  const auto bf16 = product_block<kRounded>;
#endif
  const BlockKernel kernel = {p.bf16 ? bf16 : product_block<kF32>, kTileRows, kPanel, kMaxRows, 0};
  Plan plan = {&p, &kernel, nullptr, 0, nullptr};
  run_plan(plan, (Cut*)scratch(0, (p.groups + 1) * sizeof(Cut)));
}
