// Sequence mixers with a state. A task carries some columns of one sequence's state through all of its tokens: each element of the state
// and of the result is one chain of its own, whatever the number of tokens in the call.

// Up to kLanes elements of which `n` are left; none when n <= 0.
SW_INLINE vf load_left(const float* p, int64_t n) { return n > 0 ? load(p, n) : splat(0); }
SW_INLINE void store_left(float* p, vf x, int64_t n) {
  if (n > 0) store(p, x, n);
}

// out[cols][kLanes] = x[kLanes][cols] transposed, of which `rows` rows exist; zeros for the others.
SW_INLINE void transpose_rows(float* out, const float* x, int64_t cols, int64_t rows) {
  for (int64_t i = 0; i < cols; i++) {
    for (int64_t r = 0; r < kLanes; r++) out[i * kLanes + r] = r < rows ? x[r * cols + i] : 0;
  }
}

static void causal_conv(const CausalConv& p) {
  const int64_t C = p.channels, K = p.kernel, past = K - 1, blocks = (C + kLanes - 1) / kLanes;
  parallel_blocks(p.batch * blocks, rows_per_task(kGrain, p.length * K * kLanes), [&](int64_t first, int64_t last) {
    float* taps = (float*)scratch(1, K * kLanes * sizeof(float));
    for (int64_t task = first; task < last; task++) {
      const int64_t b = task / blocks, c = task % blocks * kLanes, left = C - c;
      const float* x = p.x + b * p.length * C + c;
      float *out = p.out + b * p.length * C + c, *state = p.state + b * past * C + c;
      const auto at = [&](int64_t t) { return load(t < 0 ? state + (past + t) * C : x + t * C, left); };
      transpose_rows(taps, p.weight + c * K, K, left);
      for (int64_t t = 0; t < p.length; t++) {
        vf sum = p.bias ? load(p.bias + c, left) : splat(0);
        for (int64_t k = 0; k < K; k++) sum += load(taps + k * kLanes) * at(t - past + k);
        store(out + t * C, sum, left);
      }
      for (int64_t j = 0; j < past; j++) store(state + j * C, at(p.length - past + j), left);
    }
  });
}

// Columns of a head's state in one task: at a key width of 128 they take 16 KiB, half of a common L1.
constexpr int64_t kStateColumns = 32;
constexpr int kStateVectors = kStateColumns / kLanes;

// A query or key with norm and scale.
SW_INLINE void prepare_key(float* out, const float* x, const LinearAttention& p, float scale) {
  if (p.normalise) scale /= sqrtf(row_dot(x, x, p.key_dim) + p.norm_eps);
  map(out, x, p.key_dim, [&](vf v) { return v * scale; });
}

// One token: state = decay state + key value^T, result = state^T query, with value = beta (value - (decay state)^T key) for the delta rule.
template <bool kDelta>
SW_INLINE void attend(vf* result, float* state, vf* value, const float* query, const float* key, int64_t key_dim, float decay, float beta) {
  if (kDelta) {
    vf known[kStateVectors] = {};
    for (int64_t i = 0; i < key_dim; i++) {
      const vf k = splat(key[i]);
      SW_UNROLL for (int w = 0; w < kStateVectors; w++) {
        float* s = state + i * kStateColumns + w * kLanes;
        const vf decayed = load(s) * decay;
        store(s, decayed);
        known[w] += decayed * k;
      }
    }
    SW_UNROLL for (int w = 0; w < kStateVectors; w++) value[w] = (value[w] - known[w]) * beta;
  }
  vf sum[kStateVectors] = {};
  for (int64_t i = 0; i < key_dim; i++) {
    const vf k = splat(key[i]), q = splat(query[i]);
    SW_UNROLL for (int w = 0; w < kStateVectors; w++) {
      float* s = state + i * kStateColumns + w * kLanes;
      const vf next = (kDelta ? load(s) : load(s) * decay) + k * value[w];
      store(s, next);
      sum[w] += next * q;
    }
  }
  SW_UNROLL for (int w = 0; w < kStateVectors; w++) result[w] = sum[w];
}

static void linear_attention(const LinearAttention& p) {
  const int64_t dk = p.key_dim, dv = p.value_dim, blocks = (dv + kStateColumns - 1) / kStateColumns;
  const int64_t width = 2 * p.key_heads * dk + p.heads * dv;
  parallel_blocks(p.batch * p.heads * blocks, rows_per_task(kGrain, p.length * dk * kStateColumns), [&](int64_t first, int64_t last) {
    float* local = (float*)scratch(1, dk * (kStateColumns + 2) * sizeof(float));
    float *query = local + dk * kStateColumns, *key = query + dk;
    for (int64_t task = first; task < last; task++) {
      const int64_t head = task / blocks, h = head % p.heads, column = task % blocks * kStateColumns, left = dv - column;
      float* state = p.state + head * dk * dv + column;
      for (int64_t i = 0; i < dk; i++) {
        for (int64_t c = 0; c < kStateColumns; c += kLanes) store(local + i * kStateColumns + c, load_left(state + i * dv + c, left - c));
      }
      for (int64_t t = head / p.heads * p.length, end = t + p.length; t < end; t++) {
        const float* q = p.qkv + t * width + h / (p.heads / p.key_heads) * dk;
        const float* v = p.qkv + t * width + 2 * p.key_heads * dk + h * dv + column;
        prepare_key(query, q, p, p.scale);
        prepare_key(key, q + p.key_heads * dk, p, 1);
        vf value[kStateVectors], result[kStateVectors];
        for (int w = 0; w < kStateVectors; w++) value[w] = load_left(v + w * kLanes, left - w * kLanes);
        const float decay = p.decay[(p.decay_per_token ? t * p.heads : 0) + h];
        if (p.beta) attend<true>(result, local, value, query, key, dk, decay, p.beta[t * p.heads + h]);
        else attend<false>(result, local, value, query, key, dk, decay, 0);
        float* out = p.out + (t * p.heads + h) * dv + column;
        for (int w = 0; w < kStateVectors; w++) store_left(out + w * kLanes, result[w], left - w * kLanes);
      }
      for (int64_t i = 0; i < dk; i++) {
        for (int64_t c = 0; c < kStateColumns; c += kLanes) store_left(state + i * dv + c, load(local + i * kStateColumns + c), left - c);
      }
    }
  });
}

static void delta_decays(const DeltaDecays& p) {
  const int64_t H = p.heads;
  parallel_blocks(p.batch, rows_per_task(kHeavyGrain, p.length * H), [&](int64_t first, int64_t last) {
    float* rate = (float*)scratch(1, H * sizeof(float));
    for (int64_t h = 0; h < H; h++) rate[h] = (float)exp(p.log_rate[h]);
    for (int64_t t = first * p.length; t < last * p.length; t++) {
      float *sum = p.state + t / p.length * 3 * H, *rest = sum + H, *count = rest + H, *out = p.out + t * H;
      for (int64_t h = 0; h < H; h++) {
        if (count[h] == (float)p.chunk) sum[h] = rest[h] = count[h] = 0;
        const double x = (double)p.step[t * H + h] + p.bias[h], softplus = (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
        const double total = (double)sum[h] + rest[h] + (float)(-rate[h] * softplus);
        const float rounded = (float)total;
        out[h] = rounded - sum[h];
        sum[h] = rounded, rest[h] = (float)(total - rounded), count[h]++;
      }
      map(out, out, H, [](vf x) { return vexp(x); });
    }
  });
}

static void selective_scan(const SelectiveScan& p) {
  const int64_t C = p.channels, N = p.states, blocks = (C + kLanes - 1) / kLanes;
  parallel_blocks(p.batch * blocks, rows_per_task(kHeavyGrain, p.length * N * kLanes), [&](int64_t first, int64_t last) {
    float* a = (float*)scratch(1, N * kLanes * sizeof(float));
    for (int64_t task = first; task < last; task++) {
      const int64_t b = task / blocks, c = task % blocks * kLanes, left = C - c;
      float* state = p.state + b * N * C + c;
      transpose_rows(a, p.a + c * N, N, left);
      const vf d = load(p.d + c, left);
      for (int64_t t = b * p.length, end = t + p.length; t < end; t++) {
        const vf x = load(p.x + t * C + c, left), delta = load(p.delta + t * C + c, left), step = delta * x;
        vf sum = d * x;
        for (int64_t n = 0; n < N; n++) {
          const vf h = vexp(delta * load(a + n * kLanes)) * load(state + n * C, left) + step * p.b[t * N + n];
          store(state + n * C, h, left);
          sum += h * p.c[t * N + n];
        }
        store(p.out + t * C + c, sum, left);
      }
    }
  });
}
