// Rotary embedding of a slice of each head.

// Pairs (i, i + half) of one head's slice.
SW_INLINE void rotate_halves(float* out, const float* x, const float* cos, const float* sin, float sign, int64_t half) {
  for (int64_t i = 0; i < half; i += kLanes) {
    const vf c = load(cos + i, half - i), s = load(sin + i, half - i) * sign;
    const vf a = load(x + i, half - i), b = load(x + half + i, half - i);
    store(out + i, a * c - b * s, half - i);
    store(out + half + i, b * c + a * s, half - i);
  }
}

// Pairs (2i, 2i + 1).
SW_INLINE void rotate_pairs(float* out, const float* x, const float* cos, const float* sin, float sign, int64_t half) {
  for (int64_t i = 0; i < half; i++) {
    const float c = cos[i], s = sin[i] * sign, a = x[2 * i], b = x[2 * i + 1];
    out[2 * i] = a * c - b * s;
    out[2 * i + 1] = b * c + a * s;
  }
}

static void rope(const Rope& p) {
  const int64_t half = p.rotary / 2, width = p.heads * p.head_dim, rest = p.first + p.rotary;
  const float sign = p.inverse ? -1 : 1;
  parallel_blocks(p.tokens, rows_per_task(kGrain, width), [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const float* cos = p.table + p.positions_T[t] * p.rotary;
      for (int64_t h = 0; h < p.heads; h++) {
        const float* x = p.x + t * width + h * p.head_dim;
        float* out = p.out + t * width + h * p.head_dim;
        if (out != x && p.rotary < p.head_dim) {
          memcpy(out, x, p.first * sizeof(float));
          memcpy(out + rest, x + rest, (p.head_dim - rest) * sizeof(float));
        }
        (p.interleaved ? rotate_pairs : rotate_halves)(out + p.first, x + p.first, cos, cos + half, sign, half);
      }
    }
  });
}
