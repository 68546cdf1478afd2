// Matrix products. Every element of the result is one chain of multiply-adds in rising k, whatever the blocking: so it has the same bits
// in a batch and alone, on one thread and on many, grouped and not. Layout: the rows of a task's block of `a` are packed in tiles of
// up to kTileRows for kBlockK steps (L2), then panels of kPanel columns of `b` are packed one after the other (L1) and
// multiplied with every tile.

constexpr int kTileRows = SW_LANES == 16 ? 12 : SW_LANES == 8 ? 6 : 4;
constexpr int kPanel = 2 * kLanes;
constexpr int64_t kBlockK = 256;
// Rows of `a` in one task: their packed block takes half of a common L2 (512 KiB to 1 MiB).
constexpr int64_t kMaxRows = SW_LANES == 16 ? 512 : 384;

// Steps of k between two requests for cache lines, and how many requests ask for all that a panel is packed from: 32 rows of kBlockK floats,
// or kBlockK rows of 32 floats.
constexpr int64_t kAskEvery = 8;
constexpr int kSlices = 4;
constexpr int64_t kAskRows = 32;

// Where the lines of one request are: each slice's two in each of two places. Requests of all slices cover 32 rows of a block, or kBlockK.
struct Request {
  int64_t row_step, second_row, second_byte, slice_row, slice_byte;
};

static constexpr Request kNoRequest = {};

// What the micro-kernel does besides multiplying. Spread over its steps, the reads of what is packed next cost nothing; asked for at once, they
// stall. Passed by pointer: an argument on the stack is a store that waits behind the missing stores of the last tile.
struct Aside {
  int64_t steps;
  bool add, past;       // past: the result is written past the caches
  int slices;           // of kSlices
  const char* at;       // of row 0 of the operand
  const int32_t* rows;  // as in Product
  int64_t ld, row, last;
  const Request* request;

  const char* line(int64_t r) const {
    r = r < last ? r : last;
    return at + (rows ? rows[r] : r) * ld;
  }
};

// c[MR][kPanel] = a[steps][MR of kLanes]^T b[steps][kPanel] (+ c); next_c: the tile that is written after this one.
template <int MR, bool PAIRS>
static void micro(const float* a, const float* b, float* c, int64_t ldc, const float* next_c, const Aside* aside) {
  constexpr int64_t ask_every = PAIRS ? kAskEvery / 2 : kAskEvery;
  const bool add = aside->add;
  vf sum[MR][2];
  SW_UNROLL for (int i = 0; i < MR; i++) {
    sum[i][0] = add ? load(c + i * ldc) : splat(0);
    sum[i][1] = add ? load(c + i * ldc + kLanes) : splat(0);
  }
  const Request& request = *aside->request;
  int64_t row = aside->row;
  int rows = aside->past ? 0 : MR;  // of next_c still to be asked for
  const int at_once = aside->steps >= MR * ask_every ? 1 : MR;
  for (int64_t left = aside->steps; left > 0; left -= ask_every) {
    for (int i = 0; i < at_once && rows > 0; i++, rows--) {
      for (int v = 0; v < kPanel; v += 16) __builtin_prefetch(next_c + v, 1, 3);
      next_c += ldc;
    }
    for (int s = 0; s < aside->slices; s++) {
      const int64_t r = row + s * request.slice_row, byte = s * request.slice_byte;
      const char *first = aside->line(r) + byte, *second = aside->line(r + request.second_row) + byte + request.second_byte;
      __builtin_prefetch(first, 0, 2);
      __builtin_prefetch(first + 64, 0, 2);
      __builtin_prefetch(second, 0, 2);
      __builtin_prefetch(second + 64, 0, 2);
    }
    row += request.row_step;
    for (int64_t n = left < ask_every ? left : ask_every; n > 0; n--, a += kLanes, b += kPanel) {
      const vf b0 = load(b), b1 = load(b + kLanes);
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
  }
  __asm__("" : "+r"(c), "+r"(ldc));  // addresses of rows are computed again, not kept in spilled registers across the loop
  if (aside->past) {
    SW_UNROLL for (int i = 0; i < MR; i++) {
      store_past(c + i * ldc, sum[i][0]);
      store_past(c + i * ldc + kLanes, sum[i][1]);
    }
    return;
  }
  SW_UNROLL for (int i = 0; i < MR; i++) {
    store(c + i * ldc, sum[i][0]);
    store(c + i * ldc + kLanes, sum[i][1]);
  }
}

using Micro = void (*)(const float*, const float*, float*, int64_t, const float*, const Aside*);

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

// Tiles of tn that are packed in one pass over the rows of a, which then uses whole cache lines.
constexpr int kTogether = 4;

// Packs `length` steps of tiles [t, end) of a block of a from row i and step k0 on, [steps][kLanes] each, `tile` floats apart.
template <Packing P>
static void pack_a(float* dst, int64_t tile, const Product& p, int64_t i, const Tiles& tiles, int64_t t, int64_t end, int64_t k0, int64_t length) {
  for (; t < end; t += p.form == kTN ? kTogether : 1, dst += tile * (p.form == kTN ? kTogether : 1)) {
    if (p.form == kTN) {
      int64_t start[kTogether], width[kTogether];
      float* to[kTogether];
      int vectors = 0;
      for (; vectors < kTogether && t + vectors < end; vectors++) {
        start[vectors] = i + tiles.start(t + vectors);
        width[vectors] = tiles.size(t + vectors);
        to[vectors] = dst + vectors * tile;
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
// which rows of half width are widened to where they cannot be packed at once.
template <Packing P>
static void pack_b(float* dst, float* wide, const Product& p, int64_t j, int64_t columns, int64_t k0, int64_t length) {
  const int64_t second = columns > kLanes ? columns - kLanes : 0;
  if (p.form == kNT) {
    for (int half = 0; half < kPanel; half += kLanes) {
      const float* pointers[kLanes];
      for (int r = 0; r < kLanes; r++) pointers[r] = (const float*)(p.stored_row(j + (half + r < columns ? half + r : 0)) + row_bytes(p.type, k0));
      if (P == kF32 && p.type != kFloat && length % (2 * kLanes) == 0) {
        pack_halves(dst + half, kPanel, pointers, p.type, length, kPanel * p.ld_b);
        continue;
      }
      for (int r = 0; p.type != kFloat && r < kLanes; r++) {
        widen(wide + r * kBlockK, (const char*)pointers[r], p.type, length);
        pointers[r] = wide + r * kBlockK;
      }
      pack_transposed<P>(dst + half, kPanel, pointers, length);
    }
  } else {
    float* const to[2] = {dst, dst + kLanes};
    const int64_t start[2] = {j, second ? j + kLanes : j}, width[2] = {columns - second, second};
    pack_copied<P>(2, to, kPanel, start, width, length, [&](int64_t k) {
      if (p.type == kFloat) return p.row_b(k0 + k);
      widen(wide, p.stored_row(k0 + k) + 2 * j, p.type, columns);
      return (const float*)wide - j;
    });
  }
}

// Whether whole lines of the result are written once, and past the caches.
static bool writes_past(const Product& p) {
  return p.past_caches && !p.accumulate && p.k <= kBlockK && p.n % kPanel == 0 && p.ld_out % 16 == 0 && (uintptr_t)p.out % 64 == 0;
}

#include "few_rows.inl"

// Asks for slices [slice, slice + slices) of what 32 rows of an operand that run along k, or 32 columns, are packed from: from `start` to `end` at
// most, k0 to k.
SW_INLINE void ask(Aside* aside, bool along, const char* data, int64_t ld, const int32_t* rows, int64_t start, int64_t end, int64_t k0, int64_t k,
                   int slice, int slices) {
  static constexpr Request kRows[] = {{1, 0, 128, 0, 256}, {2, 1, 0, 0, 128}, {4, 0, 128, 1, 0}, {8, 1, 0, 2, 0}};  // of up to 256, 128, 64, 32 floats
  const int64_t length = k - k0;
  const Request& r = kRows[!along ? 3 : (length <= 128) + (length <= 64) + (length <= 32)];
  const int64_t row = along ? start : k0, column = along ? k0 : start;
  aside->slices = slices;
  aside->at = data + column * sizeof(float) + slice * r.slice_byte;
  aside->rows = rows;
  aside->ld = ld;
  aside->row = row + slice * r.slice_row;
  aside->last = (along ? end : k) - 1;
  aside->request = &r;
}

// Asks for `slices` slices, from `slice` on, of what is packed from step k0 on: of a, for 32 rows of the result from `start` on.
SW_INLINE void ask_a(Aside* aside, const Product& p, int64_t start, int64_t end, int64_t k0, int slice) {
  ask(aside, p.form != kTN, (const char*)p.a, p.ld_a * sizeof(float), p.rows_a, start, end, k0, p.k, slice, 1);
}

// Of b, for 32 columns.
SW_INLINE void ask_b(Aside* aside, const Product& p, int64_t start, int64_t k0, int slice, int slices) {
  if (p.type == kFloat) ask(aside, p.form == kNT, p.b, p.ld_b, p.rows_b, start, p.n, k0, p.k, slice, slices);
}

struct Steps {
  int64_t first, end;
};

// The steps in which a causal product adds to rows [first, end) of column j: none to what is masked, which nt does not write.
SW_INLINE Steps unmasked(const Product& p, int64_t first, int64_t end, int64_t j) {
  const int64_t keys = p.causal.seen + (end - 1) / p.causal.group;
  if (p.form == kNT) return {0, j < keys ? p.k : 0};
  if (p.form == kNN) return {0, keys};
  return {(first + 1 - p.causal.seen) * p.causal.group, p.k};
}

// Those of steps [k0, k0 + length), counted from k0.
SW_INLINE Steps unmasked_within(const Product& p, int64_t first, int64_t end, int64_t j, int64_t k0, int64_t length) {
  const Steps all = unmasked(p, first, end, j);
  const int64_t from = all.first > k0 ? (all.first < k0 + length ? all.first - k0 : length) : 0, to = all.end < k0 + length ? all.end - k0 : length;
  return {from, to > from ? to : from};
}

// Rows [i0, i1) and columns [j0, j1) of a product; `next`: what this thread may do after it.
template <Packing P>
static void product_block(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const Block* next) {
  if (P == kF32 && p.form == kNT && i1 - i0 == 1 && p.causal.group == 0 && p.rows_b == nullptr) {
    return (p.type == kFloat ? row_block<kFloat> : p.type == kHalf ? row_block<kHalf> : row_block<kBfloat>)(p, i0, j0, j1, next ? next->p.stored_row(next->j0) : p.stored_row(j0));
  }
  const Tiles tiles = {i1 - i0, (i1 - i0 + kTileRows - 1) / kTileRows};
  if (p.k == 0) {
    for (int64_t i = i0; i < i1 && !p.accumulate; i++) memset(p.out + i * p.ld_out + j0, 0, (j1 - j0) * sizeof(float));
    return;
  }
  if (P == kF32 && has_few_rows(p, p.form == kTN ? p.k : i1 - i0, j1 - j0)) return few_rows_block(p, i0, i1, j0, j1, next);
  float* const packed_b = (float*)scratch(2, kBlockK * (kPanel + (tiles.count + 1) * kLanes) * sizeof(float));
  float* const packed_a = packed_b + kBlockK * kPanel;
  // The first tiles of a panel ask for the next panel, the others of the last panels for the next block of a.
  const int asking = tiles.count >= kSlices ? kSlices : tiles.count >= 2 ? 2 : 1;
  const bool past = writes_past(p);
  for (int64_t k0 = 0; k0 < p.k; k0 += kBlockK) {
    const int64_t length = p.k - k0 < kBlockK ? p.k - k0 : kBlockK;
    const bool last_k = k0 + kBlockK >= p.k;
    const Product* const after = !last_k ? &p : next && next->p.k > 0 ? &next->p : nullptr;  // what is packed after this
    const int64_t after_i0 = last_k && next ? next->i0 : i0, after_i1 = last_k && next ? next->i1 : i1;
    const int64_t after_j = last_k && next ? next->j0 : j0, after_k = last_k ? 0 : k0 + kBlockK;
    const int64_t tile = (length + kLanes - 1) / kLanes * kLanes * kLanes;
    Aside aside = {P == kPairs ? (length + 1) / 2 : length, p.accumulate || k0 > 0, past, 0, nullptr, nullptr, 0, 0, 0, &kNoRequest};
    pack_a<P>(packed_a, tile, p, i0, tiles, 0, tiles.count, k0, length);
    int64_t slice = (after_i1 - after_i0 + kAskRows - 1) / kAskRows * kSlices - (j1 - j0 + kPanel - 1) / kPanel * (tiles.count - asking);
    for (int64_t j = j0; j < j1; j += kPanel) {
      const int64_t columns = j1 - j < kPanel ? j1 - j : kPanel;
      pack_b<P>(packed_b, packed_a + tiles.count * kBlockK * kLanes, p, j, columns, k0, length);
      const bool last = j + kPanel >= j1;
      for (int64_t t = 0; t < tiles.count; t++) {
        const int64_t tile_rows = tiles.size(t);
        const Micro run = micro_for<P == kPairs>(tile_rows);
        const float* a = packed_a + t * tile;
        float* c = p.out + (i0 + tiles.start(t)) * p.ld_out + j;
        const float* b = packed_b;
        if (p.causal.group > 0) {
          const Steps steps = unmasked_within(p, i0 + tiles.start(t), i0 + tiles.start(t + 1), j, k0, length);
          aside.steps = steps.end - steps.first;
          if (aside.steps == 0 && (aside.add || p.form == kNT)) continue;
          a += steps.first * kLanes;
          b += steps.first * kPanel;
        }
        const float* next_c = t + 1 < tiles.count ? c + tile_rows * p.ld_out : last ? c : p.out + i0 * p.ld_out + j + kPanel;
        aside.slices = 0;
        if (t < asking) {
          const int each = kSlices / asking;
          if (!last) ask_b(&aside, p, j + kPanel, k0, t * each, each);
          else if (after) ask_b(&aside, *after, after_j, after_k, t * each, each);
        } else if (after && ++slice > 0) {
          ask_a(&aside, *after, after_i0 + (slice - 1) / kSlices * kAskRows, after_i1, after_k, (slice - 1) % kSlices);
        }
        if (columns == kPanel) {
          run(a, b, c, p.ld_out, next_c, &aside);
        } else {
          float edge[kTileRows * kPanel];
          for (int64_t i = 0; aside.add && i < tile_rows; i++) memcpy(edge + i * kPanel, c + i * p.ld_out, columns * sizeof(float));
          run(a, b, edge, kPanel, edge, &aside);
          for (int64_t i = 0; i < tile_rows; i++) memcpy(c + i * p.ld_out, edge + i * kPanel, columns * sizeof(float));
        }
      }
    }
  }
  if (past) finish_past();
}

// Products of f32, bfloat16 pairs where the CPU multiplies them (vdpbf16ps adds the odd product, then the even one), rounded floats elsewhere.
static void float_matmul(const Matmul& p) {
#ifdef __AVX512BF16__
  const auto bf16 = product_block<kPairs>;
#else
  const auto bf16 = product_block<kRounded>;
#endif
  // To read a column from memory takes as long as to multiply it with some four rows: counted where one row is all there is.
  const BlockKernel kernel = {p.bf16 ? bf16 : product_block<kF32>, kTileRows, kPanel, kMaxRows, p.rows == 1 ? 4.0 : 0.0};
  Plan plan = {&p, &kernel, nullptr, 0, nullptr, 0};
  run_plan(plan, (Cut*)scratch(0, all_groups(p) * sizeof(Cut)));
}
