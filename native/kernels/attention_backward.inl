// The gradients of attention: block by block as in the forward pass, with the scores computed again.

// scores: s -> p = exp(scale * s + bias - lse); dscores: dp -> ds = scale * p * (dp - delta). Zeros in the rest of [0, end).
static void softmax_backward_row(float* s, float* ds, KeyRange visible, int64_t end, float scale, const float* bias, float lse, float delta) {
  const int64_t start = visible.first / kLanes * kLanes;
  for (int64_t j = start; j < visible.end; j += kLanes) {
    const vf e = vexp(scaled_score(s, bias, j, visible, scale) - lse);
    store(s + j, e);
    store(ds + j, e * (load(ds + j) - delta) * scale);
  }
  for (int64_t j = 0; j < visible.first; j++) s[j] = ds[j] = 0;
  for (int64_t j = visible.end; j < end; j++) s[j] = ds[j] = 0;
}

struct AttentionBackward {
  const Attention& p;
  double* dsinks_BH;  // each sequence's share
};

// One task per key/value head of a sequence: it owns dk, dv, the sinks' shares and the dq of the heads that share it.
static void attention_backward_task(void* context, int64_t task) {
  const AttentionBackward& run = *(const AttentionBackward*)context;
  const Attention& p = run.p;
  const int64_t d = p.head_dim, dv = p.value_dim, blocks = query_blocks(p);
  const int64_t tasks = p.batch * p.kv_heads, after = task + thread_count() < tasks ? task + thread_count() : task;  // if all threads are equally fast
  const bool add_all = !reaches_back(p);
  // The last block sees every key and so writes all of dk and dv, unless windows or chunks keep it from that; the others add to theirs.
  for (int64_t block = blocks - 1; block >= 0; block--) {
    const AttentionBlock t = attention_block(p, task / p.kv_heads, task % p.kv_heads, block);
    const int64_t head = block > 0 ? task : after;
    const AttentionBlock next = attention_block(p, head / p.kv_heads, head % p.kv_heads, block > 0 ? block - 1 : blocks - 1);
    const AttentionScratch s = attention_scratch(p, t, true);
    float *const dk_block = p.dk + ((const float*)t.k - (const float*)p.k), *const dv_block = p.dv + ((const float*)t.v - (const float*)p.v);
    if (add_all && block == blocks - 1) {
      for (int64_t j = 0; j < p.keys; j++) {
        memset(dk_block + (j - t.begin) * t.ld_k, 0, d * sizeof(float));
        memset(dv_block + (j - t.begin) * t.ld_v, 0, dv * sizeof(float));
      }
    }
    const int64_t start = sequence_start(p, t, d), start_v = sequence_start(p, t, dv);
    const float *q = p.q + start, *out = p.out + start_v, *dout = p.dout + start_v, *lse = p.lse + sequence_start(p, t, 1);
    multiply(kNT, false, t.rows, t.keys, d, s.scores, t.ld, q, d, s.index_R, t.k, t.ld_k, nullptr, t.causal(p));
    multiply(kNT, false, t.rows, t.keys, dv, s.dscores, t.ld, dout, dv, s.index_R, t.v, t.ld_v, nullptr, t.causal(p));
    for (int64_t r = 0; r < t.rows; r++) {
      const int64_t row = s.index_R[r];
      ask_place(p, next, p.q, d, r);
      ask_place(p, next, p.dout, dv, r);
      ask_place(p, next, p.out, dv, r);
      if (block == 0) ask_keys(p, next, r);
      vf sum = splat(0);
      for (int64_t c = 0; c < dv; c += kLanes) {
        const int64_t n = dv - c < kLanes ? dv - c : kLanes;
        sum += load_partial(dout + row * dv + c, n, 0) * load_partial(out + row * dv + c, n, 0);
      }
      const float delta = sum_lanes(sum), log_sum = lse[row] == -__builtin_inff() ? 0 : lse[row];  // -infinity: all masked
      softmax_backward_row(s.scores + r * t.ld, s.dscores + r * t.ld, t.visible(p, r), t.keys, p.scale, t.bias(p, r), log_sum, delta);
      if (run.dsinks_BH) run.dsinks_BH[t.batch * p.heads + row % p.heads] -= vexp(splat(*t.sink(p, r) - log_sum))[0] * delta;
    }
    const bool add = add_all || block < blocks - 1;
    multiply(kTN, add, t.keys, dv, t.rows, dv_block, t.ld_v, s.scores, t.ld, nullptr, dout, dv, s.index_R, t.causal(p));
    multiply(kTN, add, t.keys, d, t.rows, dk_block, t.ld_k, s.dscores, t.ld, nullptr, q, d, s.index_R, t.causal(p));
    multiply(kNN, false, t.rows, d, t.keys, s.result_RD, d, s.dscores, t.ld, nullptr, t.k, t.ld_k, nullptr, t.causal(p));
    for (int64_t r = 0; r < t.rows; r++) memcpy(p.dq + start + s.index_R[r] * d, s.result_RD + r * d, d * sizeof(float));
  }
}

static void attention_backward(const Attention& p) {
  AttentionBackward run = {p, p.dsinks_H ? (double*)scratch(0, p.batch * p.heads * sizeof(double)) : nullptr};
  for (int64_t i = 0; run.dsinks_BH && i < p.batch * p.heads; i++) run.dsinks_BH[i] = 0;
  parallel_for(p.batch * p.kv_heads, attention_backward_task, &run);
  for (int64_t h = 0; run.dsinks_BH && h < p.heads; h++) {
    double sum = 0;
    for (int64_t b = 0; b < p.batch; b++) sum += run.dsinks_BH[b * p.heads + h];
    p.dsinks_H[h] = (float)sum;
  }
}
