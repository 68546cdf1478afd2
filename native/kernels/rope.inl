// Rotary embedding, first half of a head against its second half.
static void rope(const Rope& p) {
  const int64_t half = p.head_dim / 2, width = p.heads * p.head_dim;
  const float sign = p.inverse ? -1 : 1;
  parallel_blocks(p.tokens, rows_per_task(kGrain, width), [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const float* cos = p.table + p.positions_T[t] * p.head_dim;
      const float* sin = cos + half;
      for (int64_t h = 0; h < p.heads; h++) {
        const float *x0 = p.x + t * width + h * p.head_dim, *x1 = x0 + half;
        float *out0 = p.out + t * width + h * p.head_dim, *out1 = out0 + half;
        for (int64_t i = 0; i < half; i += kLanes) {
          const vf c = load(cos + i, half - i), s = load(sin + i, half - i) * sign;
          const vf a = load(x0 + i, half - i), b = load(x1 + i, half - i);
          store(out0 + i, a * c - b * s, half - i);
          store(out1 + i, b * c + a * s, half - i);
        }
      }
    }
  });
}
