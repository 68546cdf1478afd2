// A matrix product, or one per group, and how it is cut into tasks: blocks of rows times blocks of columns of one group's product.

// A task of fewer multiply-adds is not worth handing out (about 10 us).
constexpr double kMinTask = 5e5;
constexpr int kTasksPerThread = 6;

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
  const char* runs;                // quantised rows of a, of those of `a`
  int64_t ld_runs;                 // bytes

  const float* row_a(int64_t i) const { return a + (rows_a ? rows_a[i] : i) * ld_a; }
  const float* row_b(int64_t i) const { return (const float*)stored_row(rows_b ? rows_b[i] : i); }
  const char* stored_row(int64_t i) const { return b + i * ld_b; }
  const char* row_runs(int64_t i) const { return runs + (rows_a ? rows_a[i] : i) * ld_runs; }
};

// The tiles of a block of rows: balanced, so that none is much shorter than the others.
struct Tiles {
  int64_t rows, count;
  int64_t start(int64_t t) const { return rows * t / count; }
  int64_t size(int64_t t) const { return start(t + 1) - start(t); }
};

// What computes one block of a product: rows [i0, i1) and columns [j0, j1), which begin at multiples of `tile_rows` and `panel`.
struct BlockKernel {
  void (*block)(const Product&, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
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
  const char* runs;
  int64_t ld_runs;
  const Cut* cuts;  // [groups + 1]
};

static Product group_product(const Plan& plan, int64_t e) {
  const Matmul& p = *plan.p;
  const int64_t first = p.offsets_E ? p.offsets_E[e] : 0;
  const int64_t count = p.offsets_E ? p.offsets_E[e + 1] - first : 0;
  const int64_t rows_b = p.form == kNT ? p.n : p.k, columns_b = p.form == kNT ? p.k : p.n;
  Product g = {p.form, p.accumulate, p.m, p.n, p.k, p.out, p.ld_out, p.a, p.form == kTN ? p.m : p.k, p.type, (const char*)p.b,
               row_bytes(p.type, columns_b), p.rows_a ? p.rows_a + first : nullptr, p.rows_b ? p.rows_b + first : nullptr, plan.runs, plan.ld_runs};
  if (p.offsets_E) (p.form == kTN ? g.k : g.m) = count;
  if (!p.rows_a) {
    g.a += first * g.ld_a;
    g.runs += first * g.ld_runs;
  }
  if (p.form == kTN) {
    g.out += e * p.m * p.ld_out;
    if (!p.rows_b) g.b += first * g.ld_b;
  } else {
    g.out += first * p.ld_out;
    g.b = p.b_E ? (const char*)(uintptr_t)p.b_E[e] : g.b + e * rows_b * g.ld_b;
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

static void product_task(void* context, int64_t task) {
  const Plan& plan = *(const Plan*)context;
  const BlockKernel& kernel = *plan.kernel;
  int64_t low = 0, high = plan.p->groups - 1;  // the last group whose first task is at or before this one
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (plan.cuts[middle].first_task <= task) low = middle;
    else high = middle - 1;
  }
  const Cut& cut = plan.cuts[low];
  const Product g = group_product(plan, low);
  const int64_t index = task - cut.first_task, row = index / cut.column_blocks, column = index % cut.column_blocks;
  kernel.block(g, block_start(g.m, cut.row_blocks, kernel.tile_rows, row), block_start(g.m, cut.row_blocks, kernel.tile_rows, row + 1),
               block_start(g.n, cut.column_blocks, kernel.panel, column), block_start(g.n, cut.column_blocks, kernel.panel, column + 1));
}

// Fills `plan.cuts` and runs all tasks.
static void run_plan(Plan& plan, Cut* cuts) {
  const Matmul& p = *plan.p;
  const BlockKernel& kernel = *plan.kernel;
  const auto cost = [&](const Product& g) { return g.m == 0 ? 0 : (g.m + kernel.fixed_rows) * g.n * g.k; };
  plan.cuts = cuts;
  double total = 0;
  for (int64_t e = 0; e < p.groups; e++) total += cost(group_product(plan, e));
  double target = total / (thread_count() * kTasksPerThread);
  if (target < kMinTask) target = kMinTask;
  int64_t tasks = 0;
  for (int64_t e = 0; e < p.groups; e++) {
    const Product g = group_product(plan, e);
    cuts[e] = {tasks, 0, 0};
    if (g.m == 0 || g.n == 0 || (g.k == 0 && p.accumulate)) continue;
    // Packing costs a block of rows once per column block and a block of columns once per row block.
    const double parts = cost(g) / target;
    const int64_t least = (g.m + kernel.most_rows - 1) / kernel.most_rows, wanted = (int64_t)(sqrt(parts * g.m / g.n) + 0.5);
    cuts[e].row_blocks = blocks_of(g.m, wanted > least ? wanted : least, kernel.tile_rows);
    cuts[e].column_blocks = blocks_of(g.n, (int64_t)ceil(parts / cuts[e].row_blocks), kernel.panel);
    tasks += cuts[e].row_blocks * cuts[e].column_blocks;
  }
  parallel_for(tasks, product_task, &plan);
}
