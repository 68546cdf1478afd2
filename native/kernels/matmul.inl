// Matrix products. Every element of the result is one chain of multiply-adds in rising k, whatever the blocking: so it has the same bits
// in a batch and alone, on one thread and on many, grouped and not. Layout: the rows of a task's block of `a` are packed in tiles of
// up to kTileRows for kBlockK steps (L2), then panels of kPanel columns of `b` are packed one after the other (L1) and
// multiplied with every tile.

constexpr int kTileRows = SW_LANES == 16 ? 12 : SW_LANES == 8 ? 6 : 4;
constexpr int kPanel = 2 * kLanes;
constexpr int64_t kBlockK = 256;
// Rows of `a` in one task: their packed block takes half of a common L2 (512 KiB to 1 MiB).
constexpr int64_t kMaxRows = 384;
// A task of fewer multiply-adds is not worth handing out (about 10 us).
constexpr double kMinTask = 5e5;
constexpr int kTasksPerThread = 6;

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

// One product; ld: distance between rows.
struct Product {
  MatmulForm form;
  bool accumulate;
  int64_t m, n, k;
  float* out;
  int64_t ld_out;
  const float* a;
  int64_t ld_a;
  const float* b;
  int64_t ld_b;
  const int32_t *rows_a, *rows_b;  // where row i of a or b really is; null: consecutive

  const float* row_a(int64_t i) const { return a + (rows_a ? rows_a[i] : i) * ld_a; }
  const float* row_b(int64_t i) const { return b + (rows_b ? rows_b[i] : i) * ld_b; }
};

// The tiles of a block of rows: balanced, so that none is much shorter than the others.
struct Tiles {
  int64_t rows, count;
  int64_t start(int64_t t) const { return rows * t / count; }
  int64_t size(int64_t t) const { return start(t + 1) - start(t); }
};

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

// Packs columns [j, j + columns) of b's result side: [steps][kPanel], zero beyond `columns`.
template <Packing P>
static void pack_b(float* dst, const Product& p, int64_t j, int64_t columns, int64_t k0, int64_t length) {
  const int64_t second = columns > kLanes ? columns - kLanes : 0;
  if (p.form == kNT) {
    for (int half = 0; half < kPanel; half += kLanes) {
      const float* pointers[kLanes];
      for (int r = 0; r < kLanes; r++) pointers[r] = p.row_b(j + (half + r < columns ? half + r : 0)) + k0;
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
  const int64_t row = p.ld_b * sizeof(float), block = kBlockK * sizeof(float), lines = 64 * kLinesPerStep;
  if (p.form == kNT) return {(const char*)(p.b + j * p.ld_b + k0), lines * per_step, row - block, lines};
  return {(const char*)(p.b + k0 * p.ld_b + j), row * per_step, 0, row};
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
  float* const packed_b = (float*)scratch(2, kBlockK * (kPanel + tiles.count * kLanes) * sizeof(float));
  const Ahead nothing = {(const char*)packed_b, 0, 0, 0};
  float* const packed_a = packed_b + kBlockK * kPanel;
  for (int64_t k0 = 0; k0 < p.k; k0 += kBlockK) {
    const int64_t length = p.k - k0 < kBlockK ? p.k - k0 : kBlockK;
    const int64_t steps = P == kPairs ? (length + 1) / 2 : length;
    const bool add = p.accumulate || k0 > 0;
    pack_a<P>(packed_a, p, i0, tiles, k0, length);
    for (int64_t j = j0; j < j1; j += kPanel) {
      const int64_t columns = j1 - j < kPanel ? j1 - j : kPanel;
      pack_b<P>(packed_b, p, j, columns, k0, length);
      const bool last = j + kPanel >= j1;
      Ahead next = nothing;
      if (p.rows_b == nullptr && !(last && k0 + kBlockK >= p.k)) next = panel_ahead<P>(p, last ? j0 : j + kPanel, last ? k0 + kBlockK : k0);
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

// How one group's product is cut into tasks.
struct Cut {
  int64_t first_task, row_blocks, column_blocks;
};

struct Plan {
  const Matmul* p;
  const Cut* cuts;  // [groups + 1]
  void (*block)(const Product&, int64_t, int64_t, int64_t, int64_t);
};

static Product group_product(const Matmul& p, int64_t e) {
  const int64_t first = p.offsets_E ? p.offsets_E[e] : 0;
  const int64_t count = p.offsets_E ? p.offsets_E[e + 1] - first : 0;
  Product g = {p.form, p.accumulate, p.m, p.n, p.k, p.out, p.n, p.a, p.form == kTN ? p.m : p.k, p.b, p.form == kNT ? p.k : p.n,
               p.rows_a ? p.rows_a + first : nullptr, p.rows_b ? p.rows_b + first : nullptr};
  if (p.offsets_E) (p.form == kTN ? g.k : g.m) = count;
  if (!p.rows_a) g.a += first * g.ld_a;
  if (p.form == kTN) {
    g.out += e * p.m * p.n;
    if (!p.rows_b) g.b += first * p.n;
  } else {
    g.out += first * p.n;
    g.b += e * p.n * p.k;
  }
  return g;
}

static int64_t blocks_of(int64_t length, int64_t blocks, int64_t unit) {
  const int64_t units = (length + unit - 1) / unit, most = blocks < units ? blocks : units;
  return most < 1 ? 1 : most;
}

// Bounds of block `index` of `blocks` over `length`, in whole units but for the end.
static int64_t block_start(int64_t length, int64_t blocks, int64_t unit, int64_t index) {
  const int64_t start = (length + unit - 1) / unit * index / blocks * unit;
  return start < length ? start : length;
}

static void matmul_task(void* context, int64_t task) {
  const Plan& plan = *(const Plan*)context;
  int64_t low = 0, high = plan.p->groups - 1;  // the last group whose first task is at or before this one
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (plan.cuts[middle].first_task <= task) low = middle;
    else high = middle - 1;
  }
  const Cut& cut = plan.cuts[low];
  const Product g = group_product(*plan.p, low);
  const int64_t index = task - cut.first_task, row = index / cut.column_blocks, column = index % cut.column_blocks;
  plan.block(g, block_start(g.m, cut.row_blocks, kTileRows, row), block_start(g.m, cut.row_blocks, kTileRows, row + 1),
             block_start(g.n, cut.column_blocks, kPanel, column), block_start(g.n, cut.column_blocks, kPanel, column + 1));
}

static void matmul(const Matmul& p) {
  Cut* cuts = (Cut*)scratch(0, (p.groups + 1) * sizeof(Cut));
  double total = 0;
  for (int64_t e = 0; e < p.groups; e++) {
    const Product g = group_product(p, e);
    total += (double)g.m * g.n * g.k;
  }
  double target = total / (thread_count() * kTasksPerThread);
  if (target < kMinTask) target = kMinTask;
  int64_t tasks = 0;
  for (int64_t e = 0; e < p.groups; e++) {
    const Product g = group_product(p, e);
    cuts[e] = {tasks, 0, 0};
    if (g.m == 0 || g.n == 0 || (g.k == 0 && p.accumulate)) continue;
    // Packing costs a block of rows once per column block and a block of columns once per row block.
    const double parts = (double)g.m * g.n * g.k / target;
    const int64_t least = (g.m + kMaxRows - 1) / kMaxRows, wanted = (int64_t)(sqrt(parts * g.m / g.n) + 0.5);
    cuts[e].row_blocks = blocks_of(g.m, wanted > least ? wanted : least, kTileRows);
    cuts[e].column_blocks = blocks_of(g.n, (int64_t)ceil(parts / cuts[e].row_blocks), kPanel);
    tasks += cuts[e].row_blocks * cuts[e].column_blocks;
  }
  // bfloat16 pairs where the CPU multiplies them (vdpbf16ps adds the odd product, then the even one), rounded floats elsewhere.
#ifdef __AVX512BF16__
  const auto bf16 = product_block<kPairs>;
#else
  const auto bf16 = product_block<kRounded>;
#endif
  Plan plan = {&p, cuts, p.bf16 ? bf16 : product_block<kF32>};
  parallel_for(tasks, matmul_task, &plan);
}
