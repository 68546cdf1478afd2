// A matrix product, or one per group, and how it is cut into tasks: blocks of rows times blocks of columns of one group's product.

// A task of fewer multiply-adds is not worth handing out (about 10 us).
constexpr double kMinTask = 5e5;
// Tasks per thread: few, since each packs anew, which AVX-512 feels most; some, since a core that other programs or machines share is slower than the
// others; more where a thread that wakes up late (20 to 50 us) would leave too much to the others, below so many multiply-adds per thread.
constexpr double kLargeShare = 4e7;
constexpr int kTasksOfLarge = SW_LANES == 16 ? 2 : 4, kTasksOfSmall = 6;
// To pack a row or a column costs about as much as to multiply it with this many.
constexpr double kPackCost = 6;

// Floats of a result that leaves the caches before it is read.
constexpr int64_t kLargeResult = 2 << 20;

// A product of queries and keys of which a part is masked: row i of the queries sees the first seen + i / group keys. group 0: all of them.
struct Causal {
  int64_t seen, group;
};

// Elements of bfloat16 in a word of 32 bits, where both operands are that: pairs where the CPU multiplies those (vdpbf16ps), else one, as f32.
#ifdef __AVX512BF16__
constexpr int kPerWord = 2;
#else
constexpr int kPerWord = 1;
#endif

// One product; ld: distance between rows.
struct Product {
  MatmulForm form;
  bool accumulate;
  int64_t m, n, k;
  float* out;
  int64_t ld_out;
  const float* a;
  int64_t ld_a;
  StoredType type;
  const char* b;
  int64_t ld_b;                    // bytes
  const int32_t *rows_a, *rows_b;  // where row i of a or b really is; null: consecutive
  const char* runs;                // the rows of `a` as the kernel takes them, rounded to int8 or bf16; null: as they are
  int64_t ld_runs;                 // bytes
  Causal causal;                   // queries: a (nt, nn) or the rows of a and b (tn)
  bool past_caches;                // the whole result is so large that it leaves the caches before it is read
  float* squares;                  // the sum of squares of each tile of the result, row of tiles after row of tiles; null: not wanted
  const AdamW* update;             // to be made of the elements of b before they are read; null: none

  const float* row_a(int64_t i) const { return a + (rows_a ? rows_a[i] : i) * ld_a; }
  const float* row_b(int64_t i) const { return (const float*)stored_row(rows_b ? rows_b[i] : i); }
  const char* stored_row(int64_t i) const { return b + i * ld_b; }
  const char* row_runs(int64_t i) const { return runs + (rows_a ? rows_a[i] : i) * ld_runs; }
};

// The tiles of a block of rows: balanced, so that none is much shorter than the others, or all but the last of `whole` rows.
struct Tiles {
  int64_t rows, count, whole = 0;
  int64_t least = count > 0 ? rows / count : 0, larger = rows - least * count;  // the first tiles are a row larger: divided once, not for each tile
  int64_t start(int64_t t) const { return whole == 0 ? least * t + (t < larger ? t : larger) : whole * t < rows ? whole * t : rows; }
  int64_t size(int64_t t) const { return start(t + 1) - start(t); }
};

// Rows [i0, i1) and columns [j0, j1) of a product.
struct Block {
  Product p;
  int64_t i0, i1, j0, j1;
};

// What computes one block of a product, which begins at a multiple of `tile_rows` and `panel`; next: what this thread may compute after it, or null.
struct BlockKernel {
  void (*block)(const Product&, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const Block* next);
  int64_t tile_rows, panel, most_rows;
  double fixed_rows;  // what unpacking a block's columns costs, in rows of multiply-adds
};

// How one group's product is cut.
struct Cut {
  int64_t first_task, row_blocks, column_blocks;
};

struct Plan {
  const Matmul* p;
  const BlockKernel* kernel;
  const char* runs;  // rows of `a` as the kernel takes them, ld_runs bytes apart; null: as they are
  int64_t ld_runs;
  float* squares;   // of the tiles of all groups, or null
  const Cut* cuts;  // [all_groups]
  int64_t tasks;
};

// Groups of a product and of those beside it.
static int64_t all_groups(const Matmul& p) { return p.groups + (p.beside ? all_groups(*p.beside) : 0); }

// Tiles of one group's result.
static int64_t group_tiles(const Matmul& p, const BlockKernel& kernel) {
  return ((p.m + kernel.tile_rows - 1) / kernel.tile_rows) * ((p.n + kernel.panel - 1) / kernel.panel);
}

static Product group_product(const Plan& plan, int64_t e) {
  const Matmul* product = plan.p;
  for (; e >= product->groups; product = product->beside) e -= product->groups;
  const Matmul& p = *product;
  const int64_t first = p.offsets_E ? p.offsets_E[e] : 0;
  const bool left_out = p.only != 0 && (p.b_E[e] > 0) != (p.only > 0);
  const int64_t count = p.offsets_E && !left_out ? p.offsets_E[e + 1] - first : 0;
  const int64_t rows_b = p.form == kNT ? p.n : p.k, columns_b = p.form == kNT ? p.k : p.n;
  Product g = {p.form, p.accumulate, p.m, p.n, p.k, p.out, p.ld_out, p.a, p.form == kTN ? p.m : p.k, p.type, (const char*)p.b,
               row_bytes(p.type, columns_b), p.rows_a ? p.rows_a + first : nullptr, p.rows_b ? p.rows_b + first : nullptr, plan.runs, plan.ld_runs};
  if (p.offsets_E) (p.form == kTN ? g.k : g.m) = count;
  if (p.type == kBfloat && plan.runs) {  // a and b as rows of words
    g.a = (const float*)plan.runs;
    g.ld_a = g.k = p.k / kPerWord;
    if (kPerWord == 2) g.type = kFloat;
  }
  g.past_caches = p.form == kTN && p.groups * p.m * p.n >= kLargeResult;
  g.update = p.update;
  if (plan.squares) g.squares = plan.squares + e * group_tiles(p, *plan.kernel);
  if (!p.rows_a) {
    g.a += first * g.ld_a;
    g.runs += first * g.ld_runs;
  }
  if (p.form == kTN) {
    g.out += e * p.m * p.ld_out;
    if (!p.rows_b) g.b += first * g.ld_b;
  } else {
    g.out += first * p.ld_out;
    g.b = p.b_E ? (const char*)(uintptr_t)fabs(p.b_E[e]) : g.b + e * rows_b * g.ld_b;
  }
  return g;
}

// Cuts a product into at least `parts` blocks, as far as it has tiles and panels; by columns only if an update is to be made of them, each by one task. Alone, it
// takes as long as the thread with most blocks.
static void cut_product(Cut* cut, const Product& g, const BlockKernel& kernel, double parts, bool alone) {
  const int64_t tiles = (g.m + kernel.tile_rows - 1) / kernel.tile_rows, panels = (g.n + kernel.panel - 1) / kernel.panel;
  const int64_t together = alone ? thread_count() : 1;
  double best = 0;
  const int64_t least = g.update ? 1 : (g.m + kernel.most_rows - 1) / kernel.most_rows, most = g.update ? 1 : tiles;
  for (int64_t r = least, c = 2; r <= most && c > 1; r++) {
    const int64_t wanted = (int64_t)ceil(parts / r);
    c = wanted < 1 ? 1 : wanted < panels ? wanted : panels;
    const double rows = (double)((tiles + r - 1) / r * kernel.tile_rows), columns = (double)((panels + c - 1) / c * kernel.panel);
    const double cost = (double)((r * c + together - 1) / together) * (rows + kPackCost + kernel.fixed_rows) * (columns + kPackCost);
    if (best != 0 && cost >= best) continue;
    best = cost;
    cut->row_blocks = r;
    cut->column_blocks = c;
  }
}

// Bounds of block `index` of `blocks` over `length`, in whole units but for the end.
static int64_t block_start(int64_t length, int64_t blocks, int64_t unit, int64_t index) {
  const int64_t start = (length + unit - 1) / unit * index / blocks * unit;
  return start < length ? start : length;
}

static Block find_block(const Plan& plan, int64_t task) {
  const BlockKernel& kernel = *plan.kernel;
  int64_t low = 0, high = all_groups(*plan.p) - 1;  // the last group whose first task is at or before this one
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (plan.cuts[middle].first_task <= task) low = middle;
    else high = middle - 1;
  }
  const Cut& cut = plan.cuts[low];
  const Product g = group_product(plan, low);
  const int64_t index = task - cut.first_task, row = index / cut.column_blocks, column = index % cut.column_blocks;
  return {g, block_start(g.m, cut.row_blocks, kernel.tile_rows, row), block_start(g.m, cut.row_blocks, kernel.tile_rows, row + 1),
          block_start(g.n, cut.column_blocks, kernel.panel, column), block_start(g.n, cut.column_blocks, kernel.panel, column + 1)};
}

static void product_task(void* context, int64_t task) {
  const Plan& plan = *(const Plan*)context;
  const int64_t settled = task_after(), after = settled >= 0 ? settled : task + thread_count();  // if all threads are equally fast
  const BlockKernel& kernel = *plan.kernel;
  const Block next = find_block(plan, after < plan.tasks ? after : task);
  Block block = find_block(plan, task);
  const int64_t rows = block.i1 - block.i0, parts = block.p.update ? (rows + kernel.most_rows - 1) / kernel.most_rows : 1;
  for (int64_t part = 0; part < parts; part++) {
    const int64_t first = block.i0 + block_start(rows, parts, kernel.tile_rows, part), end = block.i0 + block_start(rows, parts, kernel.tile_rows, part + 1);
    kernel.block(block.p, first, end, block.j0, block.j1, after < plan.tasks ? &next : nullptr);
    block.p.update = nullptr;  // made
  }
}

// Fills `plan.cuts` and runs all tasks.
static void run_plan(Plan& plan, Cut* cuts) {
  const Matmul& p = *plan.p;
  const BlockKernel& kernel = *plan.kernel;
  const auto cost = [&](const Product& g) { return g.m == 0 ? 0 : (g.m + kernel.fixed_rows) * g.n * g.k; };
  plan.cuts = cuts;
  const int64_t groups = all_groups(p);
  double total = 0;
  for (int64_t e = 0; e < groups; e++) total += cost(group_product(plan, e));
  const double share = total / thread_count(), most = share / (share > kLargeShare ? kTasksOfLarge : kTasksOfSmall);
  double left = total;
  int64_t tasks = 0;
  for (int64_t e = 0; e < groups; e++) {
    const Product g = group_product(plan, e);
    cuts[e] = {tasks, 0, 0};
    if (g.m > 0 && g.n > 0 && (g.k > 0 || !p.accumulate)) {
      // The last groups are cut into smaller tasks, so that all threads finish at the same time.
      const double last = left / (2 * thread_count()), target = most < last ? most : last;
      cut_product(cuts + e, g, kernel, cost(g) / (target > kMinTask ? target : kMinTask), groups == 1);
      left -= cost(g);
      tasks += cuts[e].row_blocks * cuts[e].column_blocks;
    }
    if (g.update && g.m == 0) {
      const int64_t first = (const float*)g.b - g.update->param;
      adam_w_between(*g.update, first, first + g.n * g.k);
    }
  }
  plan.tasks = tasks;
  parallel_for(tasks, product_task, &plan);
}
