// Loops over vectors, rows and blocks that the row-wise and elementwise kernels share.

// Elements per task of an op that is bound by memory: a few microseconds, so that small tensors stay on the calling thread.
constexpr int64_t kGrain = 1 << 15;
// The same for ops that compute an exponential or a division per element.
constexpr int64_t kHeavyGrain = 1 << 13;

// What lies in order is asked for this many floats ahead, so that a row's arithmetic does not wait for the next row's first lines.
constexpr int64_t kFloatsAhead = 256;
SW_INLINE void ask_ahead(const float* p) { __builtin_prefetch(p + kFloatsAhead); }

SW_INLINE int64_t rows_per_task(int64_t grain, int64_t cols) { return cols == 0 ? grain : grain < cols ? 1 : grain / cols; }

// body(first, last) over [0, n) in blocks of `grain`; the division depends on no thread count.
template <class Body>
static void parallel_blocks(int64_t n, int64_t grain, const Body& body) {
  struct Context {
    const Body& body;
    int64_t n, grain;
  } context = {body, n, grain};
  const auto run = [](void* pointer, int64_t task) {
    const Context& c = *(const Context*)pointer;
    const int64_t first = task * c.grain;
    c.body(first, first + c.grain < c.n ? first + c.grain : c.n);
  };
  parallel_for((n + grain - 1) / grain, run, &context);
}

// Up to kLanes elements, of which `n` >= 1 are left in the row.
SW_INLINE vf load(const float* p, int64_t n, float other = 0) { return n >= kLanes ? load(p) : load_partial(p, n, other); }
SW_INLINE void store(float* p, vf x, int64_t n) {
  if (n >= kLanes) store(p, x);
  else store_partial(p, x, n);
}

// out = f(x) elementwise; out may be x.
template <class F>
SW_INLINE void map(float* out, const float* x, int64_t n, F f) {
  for (int64_t i = 0; i < n; i += kLanes) store(out + i, f(load(x + i, n - i, 1)), n - i);
}

SW_INLINE float row_sum(const float* x, int64_t n) {
  vf sum = {};
  for (int64_t i = 0; i < n; i += kLanes) sum += load(x + i, n - i);
  return sum_lanes(sum);
}

SW_INLINE float row_dot(const float* a, const float* b, int64_t n) {
  vf sum = {};
  for (int64_t i = 0; i < n; i += kLanes) sum += load(a + i, n - i) * load(b + i, n - i);
  return sum_lanes(sum);
}

SW_INLINE float row_max(const float* x, int64_t n) {
  const float least = -__builtin_inff();
  vf most = splat(least);
  for (int64_t i = 0; i < n; i += kLanes) most = maximum(load(x + i, n - i, least), most);
  return max_lanes(most);
}

// Sum of exp(x - max), which are also stored unless `out` is null; out may be x.
SW_INLINE float row_exp(float* out, const float* x, int64_t n, float max) {
  vf sum = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    const vf e = vexp(load(x + i, n - i, -__builtin_inff()) - max);
    if (out) store(out + i, e, n - i);
    sum += e;
  }
  return sum_lanes(sum);
}

// out[cols] = (out +) sum over blocks, in order, of partial[blocks, stride].
static void add_blocks(float* out, const float* partial, int64_t blocks, int64_t stride, int64_t cols, bool accumulate) {
  parallel_blocks(cols, 1024, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      vf sum = {};
      for (int64_t b = 0; b < blocks; b++) sum += load(partial + b * stride + i, last - i);
      store(out + i, accumulate ? load(out + i, last - i) + sum : sum, last - i);
    }
  });
}
