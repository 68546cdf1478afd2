static void adam_w(const AdamW& p) {
  parallel_blocks(p.n, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      const int64_t left = last - i;
      const vf g = load(p.grad + i, left) * p.grad_scale;
      const vf m = load(p.m + i, left) * p.beta1 + g * p.rest1;
      const vf v = load(p.v + i, left) * p.beta2 + g * g * p.rest2;
      store(p.m + i, m, left);
      store(p.v + i, v, left);
      store(p.param + i, load(p.param + i, left) * p.decay - p.step_size * m / (vsqrt(v) * p.correction2 + p.eps), left);
    }
  });
}
