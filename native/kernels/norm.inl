// RMS norm and layer norm. Sums and results are in double precision: an error of the scale would change a whole row.

struct Moments {
  double mean, scale;
};

SW_INLINE Moments moments(const Norm& p, const float* x) {
  const int64_t n = p.cols;
  double mean = 0;
  if (p.centred) {
    vd sum = {};
    for (int64_t i = 0; i < n; i += kDoubles) sum += load_wide(x + i, n - i);
    mean = sum_wide(sum) / n;
  }
  vd squares = {};
  int64_t i = 0;
  for (; i + kDoubles <= n; i += kDoubles) {
    const vd d = load_wide(x + i) - mean;
    squares += d * d;
  }
  double sum = sum_wide(squares);
  for (; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
  return {mean, 1 / sqrt(sum / n + p.eps)};
}

SW_INLINE vf weight_at(const Norm& p, int64_t i) { return p.weight ? load(p.weight + i, p.cols - i) + p.offset : splat(1); }

static void norm(const Norm& p) {
  const int64_t n = p.cols;
  parallel_blocks(p.rows, rows_per_task(kGrain, n), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float* x = p.x + row * n;
      float* out = p.out + row * n;
      const Moments m = moments(p, x);
      for (int64_t i = 0; i < n; i += kDoubles) {
        vd y = (load_wide(x + i, n - i) - m.mean) * m.scale;
        if (p.weight) y *= load_wide(p.weight + i, n - i) + p.offset;
        if (p.bias) y += load_wide(p.bias + i, n - i);
        store_narrow(out + i, y, n - i);
      }
    }
  });
}

// With h = (x - mean) * scale and g = dout * weight: dx = scale * (g - mean(g) - h * mean(g * h)), the RMS norm without the means of x
// and g. dweight = sum of dout * h and dbias = sum of dout over rows: first over blocks of kNormBlock rows, then over blocks.
constexpr int64_t kNormBlock = 64;

static void norm_backward(const Norm& p) {
  const int64_t n = p.cols, blocks = (p.rows + kNormBlock - 1) / kNormBlock;
  const bool sums = p.dweight || p.dbias;
  float* partial = sums ? (float*)scratch(0, 2 * blocks * n * sizeof(float)) : nullptr;
  parallel_blocks(p.rows, kNormBlock, [&](int64_t first, int64_t last) {
    float* dweight = partial + 2 * n * (first / kNormBlock);
    float* dbias = dweight + n;
    if (sums) memset(dweight, 0, 2 * n * sizeof(float));
    for (int64_t row = first; row < last; row++) {
      const float *x = p.x + row * n, *dout = p.dout + row * n;
      const Moments wide = moments(p, x);
      const float mean = (float)wide.mean, scale = (float)wide.scale;
      vf sum_g = {}, sum_gh = {};
      for (int64_t i = 0; i < n; i += kLanes) {
        const vf d = load(dout + i, n - i), h = (load(x + i, n - i) - mean) * scale, g = d * weight_at(p, i);
        sum_g += g;
        sum_gh += g * h;
        if (p.dweight) store(dweight + i, load(dweight + i, n - i) + d * h, n - i);
        if (p.dbias) store(dbias + i, load(dbias + i, n - i) + d, n - i);
      }
      if (!p.dx) continue;
      const float mean_g = p.centred ? sum_lanes(sum_g) / n : 0, mean_gh = sum_lanes(sum_gh) / n;
      float* dx = p.dx + row * n;
      for (int64_t i = 0; i < n; i += kLanes) {
        const vf g = load(dout + i, n - i) * weight_at(p, i), h = (load(x + i, n - i) - mean) * scale;
        const vf value = (g - mean_g - h * mean_gh) * scale;
        store(dx + i, p.accumulate_dx ? load(dx + i, n - i) + value : value, n - i);
      }
    }
  });
  if (p.dweight) add_blocks(p.dweight, partial, blocks, 2 * n, n, p.accumulate_dweight);
  if (p.dbias) add_blocks(p.dbias, partial + n, blocks, 2 * n, n, p.accumulate_dbias);
}
