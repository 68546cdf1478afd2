// One function for whole tensors and for what a product reads: the compiler chooses what it contracts into multiply-adds only once.
__attribute__((noinline)) static void adam_w_range(const AdamW& update, int64_t first, int64_t last) {
  const AdamW p = update;  // in registers: stores below could change it
  for (int64_t i = first; i < last; i += kLanes) {
    const int64_t left = last - i;
    const vf g = load(p.grad + i, left) * p.grad_scale;
    const vf m = load(p.m + i, left) * p.beta1 + g * p.rest1;
    const vf v = load(p.v + i, left) * p.beta2 + g * g * p.rest2;
    store(p.m + i, m, left);
    store(p.v + i, v, left);
    store(p.param + i, load(p.param + i, left) * p.decay - p.step_size * m / (vsqrt(v) * p.correction2 + p.eps), left);
  }
}

static void adam_w_between(const AdamW& p, int64_t begin, int64_t end) {
  parallel_blocks(end - begin, kGrain, [&](int64_t first, int64_t last) { adam_w_range(p, begin + first, begin + last); });
}

static void adam_w(const AdamW& p) { adam_w_between(p, 0, p.n); }
