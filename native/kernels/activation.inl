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
struct QuickGelu {
  SW_INLINE void both(vf x, vf* value, vf* slope) {
    const float k = 1.702f;
    const vf s = vsigmoid(k * x);
    *value = x * s;
    *slope = s * (1.0f + k * x * (1.0f - s));
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

// The rows [first, last) of a call, with the group that each belongs to for its row of the bias.
template <class Body>
SW_INLINE void each_hidden_row(const Glu& p, int64_t first, int64_t last, const Body& body) {
  const int64_t width_x = p.gated ? 2 * p.width : p.width;
  int64_t group = 0;
  for (int64_t row = first; row < last; row++) {
    while (p.offsets_E && row >= p.offsets_E[group + 1]) group++;
    const float scale = p.row_scale ? p.row_scale[row] : 1;
    body(row, p.x + row * width_x, p.bias ? p.bias + group * width_x : nullptr, p.scale_input ? scale : 1, p.scale_input ? 1 : scale);
  }
}

// Column i of a row of x, scaled and with its bias; `n` columns are left.
SW_INLINE vf hidden(const float* x, const float* bias, int64_t i, int64_t n, float scale) {
  const vf value = load(x + i, n) * scale;
  return bias ? value + load(bias + i, n) : value;
}

SW_INLINE vf clamp(vf x, float low, float high) { return select(x > high, splat(high), select(x < low, splat(low), x)); }

// A row is too short for the CPU to see where its two halves go on in the next ones.
constexpr int64_t kGluRowsAhead = 4;

template <class Act, bool kGated>
static void glu_forward(const Glu& p) {
  const int64_t n = p.width;
  const float none = -__builtin_inff();
  parallel_blocks(p.rows, rows_per_task(kHeavyGrain, n), [&](int64_t first, int64_t last) {
    each_hidden_row(p, first, last, [&](int64_t row, const float* x, const float* bias, float scale_in, float scale_out) {
      float* out = p.out + row * n;
      for (int64_t i = 0; i < n; i += kLanes) {
        vf value, slope;
        __builtin_prefetch(x + kGluRowsAhead * (kGated ? 2 * n : n) + i);
        if (kGated) __builtin_prefetch(x + (2 * kGluRowsAhead + 1) * n + i);
        __builtin_prefetch(out + kGluRowsAhead * n + i, 1);
        Act::both(clamp(hidden(x, bias, i, n - i, scale_in), none, p.limit), &value, &slope);
        if (kGated) value *= clamp(hidden(x + n, bias ? bias + n : nullptr, i, n - i, scale_in), -p.limit, p.limit) + p.up_offset;
        store(out + i, value * scale_out, n - i);
      }
    });
  });
}

template <class Act, bool kGated>
static void glu_backward_of(const Glu& p) {
  const int64_t n = p.width, width_x = kGated ? 2 * n : n;
  parallel_blocks(p.rows, rows_per_task(kHeavyGrain, n), [&](int64_t first, int64_t last) {
    each_hidden_row(p, first, last, [&](int64_t row, const float* x, const float* bias, float scale_in, float scale_out) {
      const float* dout = p.dout + row * n;
      float* dx = p.dx + row * width_x;
      vf dscale = {};
      for (int64_t i = 0; i < n; i += kLanes) {
        ask_ahead(x + 2 * i);
        if (kGated) ask_ahead(x + 2 * i + kLanes);
        ask_ahead(dout + i);
        const vf g = load(dout + i, n - i), scaled = g * scale_out, zero = {};
        const vf gate = hidden(x, bias, i, n - i, scale_in);
        vf value, slope, up = splat(1);
        Act::both(clamp(gate, -__builtin_inff(), p.limit), &value, &slope);
        slope = select(gate > p.limit, zero, slope);
        vf dup = zero;
        if (kGated) {
          const vf raw = hidden(x + n, bias ? bias + n : nullptr, i, n - i, scale_in);
          up = clamp(raw, -p.limit, p.limit) + p.up_offset;
          dup = select(raw > p.limit, zero, select(raw < -p.limit, zero, scaled * value));
          store(dx + n + i, dup * scale_in, n - i);
        }
        const vf dgate = kGated ? scaled * up * slope : scaled * slope;
        store(dx + i, dgate * scale_in, n - i);
        if (!p.scale_input) dscale += g * (kGated ? value * up : value);
        else dscale += dgate * load(x + i, n - i) + (kGated ? dup * load(x + n + i, n - i) : zero);
      }
      if (p.drow_scale) p.drow_scale[row] = sum_lanes(dscale);
    });
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
    case kQuickGelu: return glu_of<QuickGelu>(p);
    case kRelu: return glu_of<Relu>(p);
    case kRelu2: return glu_of<Relu2>(p);
  }
}
