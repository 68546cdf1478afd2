// Which kernel multiplies and gathers which type.

static void matmul(const Matmul& p) {
  if (p.f64) return double_matmul(p);
  static void (*const kernels[])(const Matmul&) = {
      float_matmul,       float_matmul,       float_matmul,       quant_matmul<kQ4_0>, quant_matmul<kQ4_1>,  quant_matmul<kQ5_0>,  quant_matmul<kQ5_1>, quant_matmul<kQ8_0>,
      quant_matmul<kQ2K>, quant_matmul<kQ3K>, quant_matmul<kQ4K>, quant_matmul<kQ5K>,  quant_matmul<kQ6K>, quant_matmul<kIq4NL>, quant_matmul<kIq4XS>, quant_matmul<kMxfp4>,
      float_matmul,       float_matmul};
  kernels[p.type](p);
}

template <StoredType T>
static void gather_floats(float* out, const char* table, const int32_t* rows, int64_t m, int64_t cols) {
  parallel_blocks(m, rows_per_task(kGrain, cols), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      const char* from = table + row_bytes(T, rows[i] * cols);
      if (rows[i] < 0) memset(out + i * cols, 0, cols * sizeof(float));
      else if (T == kFloat) memcpy(out + i * cols, from, cols * sizeof(float));
      else widen_stored(out + i * cols, from, T, cols);
    }
  });
}

static void gather_rows(float* out, const void* table, StoredType type, const int32_t* rows, int64_t m, int64_t cols) {
  static void (*const kernels[])(float*, const char*, const int32_t*, int64_t, int64_t) = {
      gather_floats<kFloat>,  gather_floats<kHalf>,   gather_floats<kBfloat>, gather_quantised<kQ4_0>, gather_quantised<kQ4_1>,  gather_quantised<kQ5_0>,
      gather_quantised<kQ5_1>, gather_quantised<kQ8_0>, gather_quantised<kQ2K>,  gather_quantised<kQ3K>,  gather_quantised<kQ4K>,   gather_quantised<kQ5K>,
      gather_quantised<kQ6K>, gather_quantised<kIq4NL>, gather_quantised<kIq4XS>, gather_quantised<kMxfp4>, gather_floats<kE4m3>,  gather_floats<kE5m2>};
  kernels[type](out, (const char*)table, rows, m, cols);
}

// out = x as binary16.
static void narrow(uint16_t* out, const float* x, int64_t n) {
  parallel_blocks(n, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      typedef uint16_t vh __attribute__((vector_size(SW_LANES * 2)));
      const vh halves = __builtin_convertvector(float_to_half(load(x + i, last - i)), vh);
      memcpy(out + i, &halves, 2 * (last - i < kLanes ? last - i : kLanes));
    }
  });
}
