// Matrix products. Every element of the result is one chain of multiply-adds in rising k, whatever the blocking: so it has the same bits
// in a batch and alone, on one thread and on many, grouped and not. Layout: the rows of a task's block of `a` are packed in tiles of
// up to kTileRows for kBlockK steps (L2), or read as they lie, then panels of kPanel columns of `b` are packed one after the other (L1) and
// multiplied with every tile.

// Rows of `a` in one task: their packed block takes half of a common L2 (512 KiB to 1 MiB).
constexpr int64_t kMaxRows = SW_LANES == 16 ? 512 : 264;

// Tiles of tn that are packed in one pass over the rows of a, which then uses whole cache lines.
constexpr int kTogether = 4;

// Floats between packed tiles of so many steps: the last step is written as a whole vector.
constexpr int64_t tile_floats(int64_t steps) { return (steps + kLanes - 1) / kLanes * kLanes * kTileRows + kLanes; }

// Packs `length` steps of tiles [t, end) of a block of a from row i and step k0 on, [steps][kTileRows] each, `tile` floats apart.
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
      pack_copied<P>(vectors, to, kTileRows, start, width, length, [&](int64_t k) { return p.row_a(k0 + k); });
    } else {
      const float* pointers[kLanes];
      const int64_t start = i + tiles.start(t), rows = tiles.size(t);
      for (int r = 0; r < kLanes; r++) pointers[r] = p.row_a(start + (r < rows ? r : 0)) + k0;
      pack_transposed<P>(dst, kTileRows, pointers, length);
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
      if (P == kF32 && is_fp8(p.type)) {
        (p.type == kE4m3 ? pack_fp8<kE4m3> : pack_fp8<kE5m2>)(dst + half, kPanel, (const char* const*)pointers, length, kPanel * p.ld_b);
        continue;
      }
      if (P == kF32 && p.type != kFloat && length % (2 * kLanes) == 0) {
        pack_halves(dst + half, kPanel, pointers, p.type, length, kPanel * p.ld_b);
        continue;
      }
      for (int r = 0; p.type != kFloat && r < kLanes; r++) {
        widen_stored(wide + r * kBlockK, (const char*)pointers[r], p.type, length);
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

// Those of rows [i0, i1). Squares are summed by tile, so that no sum depends on how the product is cut.
static Tiles block_tiles(const Product& p, int64_t i0, int64_t i1) { return {i1 - i0, (i1 - i0 + kTileRows - 1) / kTileRows, p.squares ? kTileRows : 0}; }

// Where the sum of squares of the tile goes that begins at row i and column j.
SW_INLINE float* squares_of(const Product& p, int64_t i, int64_t j) { return p.squares ? p.squares + i / kTileRows * ((p.n + kPanel - 1) / kPanel) + j / kPanel : nullptr; }

// Updates steps [k0, k0 + length) of columns [j, j + columns) of b, in form nt.
static void update_columns(const Product& p, int64_t j, int64_t columns, int64_t k0, int64_t length) {
  const int64_t first = (const float*)p.stored_row(j) - p.update->param + k0;
  if (length == p.k) return adam_w_range(*p.update, first, first + columns * p.k);
  for (int64_t r = 0; r < columns; r++) adam_w_range(*p.update, first + r * p.k, first + r * p.k + length);
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
  const int64_t first = row + slice * r.slice_row, last = (along ? end : k) - 1;
  aside->slices = slices;
  aside->requests = first > last ? 0 : (last - first) / r.row_step + 1;
  aside->at = data + column * sizeof(float) + slice * r.slice_byte + (rows ? 0 : first * ld);
  aside->rows = rows;
  aside->ld = ld;
  aside->step = r.row_step * ld;
  aside->second = r.second_row * ld + r.second_byte;
  aside->next_slice = r.slice_row * ld + r.slice_byte;
  aside->row = first;
  aside->last = last;
  aside->request = &r;
}

// Asks for `slices` slices, from `slice` on, of what is packed from step k0 on: of a, for 32 rows of the result from `start` on.
SW_INLINE void ask_a(Aside* aside, const Product& p, int64_t start, int64_t end, int64_t k0, int slice) {
  ask(aside, p.form != kTN, (const char*)p.a, p.ld_a * sizeof(float), p.rows_a, start, end, k0, p.k, slice, 1);
}

// Of b, for 32 columns; slices from kSlices on are those of the gradient and moments that its update reads.
SW_INLINE void ask_b(Aside* aside, const Product& p, int64_t start, int64_t k0, int slice, int slices) {
  const char* data = p.b;
  if (slice >= kSlices) {
    if (!p.update) return;
    const float* const besides[] = {p.update->grad, p.update->m, p.update->v};
    data = (const char*)besides[slice / kSlices - 1] + (p.b - (const char*)p.update->param);
  }
  if (p.type == kFloat) ask(aside, p.form == kNT, data, p.ld_b, p.rows_b, start, p.n, k0, p.k, slice % kSlices, slices);
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

// Columns of a block for which packing its rows of a pays.
constexpr int64_t kManyColumns = 1024;
// Floats over which the rows of a in a block of tn may be spread, a part of the L2.
constexpr int64_t kInPlace = 3 << 16;

// Whether a block of so many columns is multiplied with a as it lies: what comes from afar is then read while something is computed. Rows of nt and nn
// that are a multiple of 4 KiB apart share one set of the L1.
static bool reads_in_place(const Product& p, int64_t columns) {
  if (p.rows_a || columns >= kManyColumns) return false;
  const int64_t steps = p.k < kBlockK ? p.k : kBlockK;
  return p.form == kTN ? (steps * p.ld_a <= kInPlace && p.ld_a % 512 != 0) || steps <= kLanes : p.ld_a % 1024 != 0;
}

// Rows [i0, i1) and columns [j0, j1) of a product; `next`: what this thread may do after it. PAIRS: operands are packed as pairs, or consist of them.
template <Packing P, bool PAIRS = P == kPairs>
static void product_block(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const Block* next) {
  const bool one = P == kF32 && p.form == kNT && i1 - i0 == 1 && p.causal.group == 0 && p.rows_b == nullptr;
  const bool few = P == kF32 && has_few_rows(p, p.form == kTN ? p.k : i1 - i0, j1 - j0);
  if (p.update && one) update_columns(p, j0, j1 - j0, 0, p.k);
  if (one) {
    void (*const table[])(const Product&, int64_t, int64_t, int64_t, const char*) = {
        p.k <= kShortRow ? row_block<kFloat, PAIRS, true> : row_block<kFloat, PAIRS>, row_block<kHalf>, row_block<kBfloat>, fp8_row_block<kE4m3>, fp8_row_block<kE5m2>};
    return table[is_fp8(p.type) ? p.type - kE4m3 + 3 : p.type](p, i0, j0, j1, next ? next->p.stored_row(next->j0) : p.stored_row(j0));
  }
  const Tiles tiles = block_tiles(p, i0, i1);
  if (p.k == 0) {
    for (int64_t i = i0; i < i1 && !p.accumulate; i++) memset(p.out + i * p.ld_out + j0, 0, (j1 - j0) * sizeof(float));
    return;
  }
  if (few) return few_rows_block<PAIRS>(p, i0, i1, j0, j1, next);
  const bool in_place = P == kF32 && reads_in_place(p, j1 - j0), along = in_place && p.form != kTN;
  const int64_t packed_tiles = in_place ? 0 : tiles.count;
  float* const packed_b = (float*)scratch(2, (kBlockK * (kPanel + kLanes) + packed_tiles * tile_floats(kBlockK)) * sizeof(float));
  float *const packed_a = packed_b + kBlockK * kPanel, *const wide = packed_a + packed_tiles * tile_floats(kBlockK);
  // The first tiles of a panel ask for the next panel, the others of the last panels for the next block of a.
  const int slices = p.update ? 4 * kSlices : kSlices;
  int each = kSlices;
  while (each > 1 && slices / each * 2 <= tiles.count) each /= 2;
  const int asking = slices / each;
  const bool past = writes_past(p);
  for (int64_t k0 = 0; k0 < p.k; k0 += kBlockK) {
    const int64_t length = p.k - k0 < kBlockK ? p.k - k0 : kBlockK;
    const bool last_k = k0 + kBlockK >= p.k, squares = p.squares && last_k;
    const Product* const after = !last_k ? &p : next && next->p.k > 0 ? &next->p : nullptr;  // what is packed after this
    const int64_t after_i0 = last_k && next ? next->i0 : i0, after_i1 = last_k && next ? next->i1 : i1;
    const int64_t after_j = last_k && next ? next->j0 : j0, after_k = last_k ? 0 : k0 + kBlockK;
    const int64_t tile = tile_floats(length);
    constexpr int64_t each_step = P == kPairs ? 2 : 1;
    Aside aside = {(length + each_step - 1) / each_step, in_place ? p.ld_a : kTileRows, kAskEvery / each_step, p.accumulate || k0 > 0, past};
    if (!in_place) pack_a<P>(packed_a, tile, p, i0, tiles, 0, tiles.count, k0, length);
    int64_t slice = (after_i1 - after_i0 + kAskRows - 1) / kAskRows * kSlices - (j1 - j0 + kPanel - 1) / kPanel * (tiles.count - asking);
    for (int64_t j = j0; j < j1; j += kPanel) {
      const int64_t columns = j1 - j < kPanel ? j1 - j : kPanel;
      if (p.update) update_columns(p, j, columns, k0, length);
      pack_b<P>(packed_b, wide, p, j, columns, k0, length);
      const bool last = j + kPanel >= j1;
      for (int64_t t = 0; t < tiles.count; t++) {
        const int64_t tile_rows = tiles.size(t);
        const int64_t row = i0 + tiles.start(t);
        const Micro run = along ? micro_for<PAIRS, kAlong>(tile_rows) : in_place ? micro_for<PAIRS, kAcross>(tile_rows, squares) : micro_for<PAIRS, kPacked>(tile_rows, squares);
        const float* a = !in_place ? packed_a + t * tile : along ? p.a + row * p.ld_a + k0 : p.a + k0 * p.ld_a + row;
        float* c = p.out + row * p.ld_out + j;
        const float* b = packed_b;
        if (p.causal.group > 0) {
          const Steps steps = unmasked_within(p, row, row + tile_rows, j, k0, length);
          aside.steps = steps.end - steps.first;
          if (aside.steps == 0 && (aside.add || p.form == kNT)) continue;
          a += steps.first * (along ? 1 : aside.ld_a);
          b += steps.first * kPanel;
        }
        const float* next_c = t + 1 < tiles.count ? c + tile_rows * p.ld_out : last ? c : p.out + i0 * p.ld_out + j + kPanel;
        aside.requests = 0;
        aside.squares = squares_of(p, row, j);
        if (t < asking) {
          if (!last) ask_b(&aside, p, j + kPanel, k0, t * each, each);
          else if (after) ask_b(&aside, *after, after_j, after_k, t * each, each);
        } else if (after && ++slice > 0) {
          ask_a(&aside, *after, after_i0 + (slice - 1) / kSlices * kAskRows, after_i1, after_k, (slice - 1) % kSlices);
        }
        if (columns == kPanel) {
          run(a, b, c, p.ld_out, next_c, &aside);
        } else {
          float edge[kTileRows * kPanel];
          if (aside.squares) memset(edge, 0, sizeof edge);
          for (int64_t i = 0; aside.add && i < tile_rows; i++) memcpy(edge + i * kPanel, c + i * p.ld_out, columns * sizeof(float));
          run(a, b, edge, kPanel, edge, &aside);
          for (int64_t i = 0; i < tile_rows; i++) memcpy(c + i * p.ld_out, edge + i * kPanel, columns * sizeof(float));
        }
      }
    }
  }
  if (past) finish_past();
}

// words[i] = elements [i * kPerWord, (i + 1) * kPerWord) of a, n in all, as bfloat16.
static void round_to_words(float* words, const float* a, int64_t n) {
  parallel_blocks(n, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kPerWord * kLanes) {
      store(words + i / kPerWord, packed_piece<kPerWord == 2 ? kPairs : kRounded>(a, i, last), (last - i) / kPerWord);
    }
  });
}

// In f64, and in eight chains.
static double sum_in_order(const float* x, int64_t n) {
  double sum[8] = {};
  for (int64_t i = 0; i < n; i++) sum[i % 8] += x[i];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

// What the update of an element costs, in multiply-adds.
constexpr double kUpdateCost = 20;

// Products of f32, bfloat16 pairs where the CPU multiplies them (vdpbf16ps adds the odd product, then the even one), rounded floats elsewhere. For
// weights of bfloat16 `a` is rounded once: rows of both are words then, multiplied as rows of f32 are.
static void float_matmul(const Matmul& p) {
  const bool words = p.bf16 && p.type == kBfloat && p.k % kPerWord == 0;
  const auto block = words ? product_block<kF32, kPerWord == 2> : !p.bf16 ? product_block<kF32> : product_block<kPerWord == 2 ? kPairs : kRounded>;
  // To read a column from memory takes as long as to multiply it with some four rows: counted where one row is all there is.
  const BlockKernel kernel = {block, kTileRows, kPanel, kMaxRows, p.update ? kUpdateCost : p.rows == 1 ? 4.0 : 0.0};
  const int64_t floats = words ? p.rows * p.k / kPerWord : p.squares ? p.groups * group_tiles(p, kernel) : 0;
  Cut* const cuts = (Cut*)scratch(0, all_groups(p) * sizeof(Cut) + floats * sizeof(float));
  float* const rest = (float*)(cuts + all_groups(p));
  if (words) round_to_words(rest, p.a, p.rows * p.k);
  if (p.squares) memset(rest, 0, floats * sizeof(float));
  Plan plan = {&p, &kernel, words ? (const char*)rest : nullptr, 0, p.squares ? rest : nullptr, nullptr, 0};
  run_plan(plan, cuts);
  if (p.squares) *p.squares = sum_in_order(rest, floats);
}
