// Activations, gated or not, with the router's weight of each row.

// Each gives act(x) and its slope.
struct Silu {
  SW_INLINE void both(vf x, vf* value, vf* slope) {
    const vf s = vsigmoid(x);
    *value = x * s;
    *slope = s * (1.0f + x * (1.0f - s));
  }
};
struct Gelu {
  SW_INLINE void both(vf x, vf* value, vf* slope) {
    vf cdf, density;
    normal_cdf(x, &cdf, &density);
    *value = x * cdf;
    *slope = cdf + x * density;
  }
};
struct GeluTanh {
  SW_INLINE void both(vf x, vf* value, vf* slope) {
    const float k = 1.595769122f, cubic = 0.044715f;  // 2 sqrt(2 / pi): (1 + tanh(z)) / 2 = sigmoid(2 z)
    const vf u = x * x;
    const vf s = vsigmoid(k * x * (1.0f + cubic * u));
    *value = x * s;
    *slope = s + x * s * (1.0f - s) * k * (1.0f + 3.0f * cubic * u);
  }
};
struct Relu {
  SW_INLINE void both(vf x, vf* value, vf* slope) {
    *value = select(x < 0, splat(0), x);
    *slope = select(x > 0, splat(1), splat(0));
  }
};
struct Relu2 {
  SW_INLINE void both(vf x, vf* value, vf* slope) {
    const vf positive = select(x < 0, splat(0), x);
    *value = positive * positive;
    *slope = 2.0f * positive;
  }
};

template <class Act, bool kGated>
static void glu_forward(const Glu& p) {
  const int64_t n = p.width, width_x = kGated ? 2 * n : n;
  parallel_blocks(p.rows, rows_per_task(kHeavyGrain, n), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float* x = p.x + row * width_x;
      float* out = p.out + row * n;
      const float scale = p.row_scale ? p.row_scale[row] : 1;
      for (int64_t i = 0; i < n; i += kLanes) {
        vf value, slope;
        Act::both(load(x + i, n - i), &value, &slope);
        if (kGated) value *= load(x + n + i, n - i);
        store(out + i, value * scale, n - i);
      }
    }
  });
}

template <class Act, bool kGated>
static void glu_backward_of(const Glu& p) {
  const int64_t n = p.width, width_x = kGated ? 2 * n : n;
  parallel_blocks(p.rows, rows_per_task(kHeavyGrain, n), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float *x = p.x + row * width_x, *dout = p.dout + row * n;
      float* dx = p.dx + row * width_x;
      const float scale = p.row_scale ? p.row_scale[row] : 1;
      vf dscale = {};
      for (int64_t i = 0; i < n; i += kLanes) {
        const vf g = load(dout + i, n - i), scaled = g * scale;
        vf value, slope;
        Act::both(load(x + i, n - i), &value, &slope);
        if (kGated) {
          const vf up = load(x + n + i, n - i);
          store(dx + i, scaled * up * slope, n - i);
          store(dx + n + i, scaled * value, n - i);
          value *= up;
        } else {
          store(dx + i, scaled * slope, n - i);
        }
        dscale += g * value;
      }
      if (p.drow_scale) p.drow_scale[row] = sum_lanes(dscale);
    }
  });
}

template <class Act>
static void glu_of(const Glu& p) {
  if (p.dout) return p.gated ? glu_backward_of<Act, true>(p) : glu_backward_of<Act, false>(p);
  return p.gated ? glu_forward<Act, true>(p) : glu_forward<Act, false>(p);
}

// Backward when p.dout is given.
static void glu(const Glu& p) {
  switch (p.activation) {
    case kSilu: return glu_of<Silu>(p);
    case kGelu: return glu_of<Gelu>(p);
    case kGeluTanh: return glu_of<GeluTanh>(p);
    case kRelu: return glu_of<Relu>(p);
    case kRelu2: return glu_of<Relu2>(p);
  }
}
