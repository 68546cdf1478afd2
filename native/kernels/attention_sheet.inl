// Products of a sheet of scores, [rows][keys], with the queries, keys or values of a head: results are so narrow that packing the sheet would cost a
// fifth of them, so it is multiplied as it lies. The chains are those of the micro-kernel.

// c[MR][kPanel] (+)= a b[steps][kPanel]; step k of row i of a is at i * ld + k (KEYS, as in nn) or at k * ld + i (as in tn).
template <int MR, bool KEYS>
static void sheet_tile(const float* a, int64_t ld, const float* b, int64_t steps, float* c, int64_t ldc, bool add, const float* next_c) {
  vf sum[MR][2];
  SW_UNROLL for (int i = 0; i < MR; i++) {
    sum[i][0] = add ? load(c + i * ldc) : splat(0);
    sum[i][1] = add ? load(c + i * ldc + kLanes) : splat(0);
  }
  for (int64_t k = 0; k < steps; k++, a += KEYS ? 1 : ld, b += kPanel) {
    for (int v = 0; k < MR && v < kPanel; v += 16) __builtin_prefetch(next_c + k * ldc + v, 1, 3);
    const vf b0 = load(b), b1 = load(b + kLanes);
    SW_UNROLL for (int i = 0; i < MR; i++) {
      const vf x = splat(KEYS ? a[i * ld] : a[i]);
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
  }
  __asm__("" : "+r"(c), "+r"(ldc));  // as in the micro-kernel
  SW_UNROLL for (int i = 0; i < MR; i++) {
    store(c + i * ldc, sum[i][0]);
    store(c + i * ldc + kLanes, sum[i][1]);
  }
}

template <int MR>
static void key_tile(const float* a, int64_t ld, const float* b, int64_t steps, float* c, int64_t ldc, bool add, const float* next_c) {
  sheet_tile<MR, true>(a, ld, b, steps, c, ldc, add, next_c);
}
template <int MR>
static void row_tile(const float* a, int64_t ld, const float* b, int64_t steps, float* c, int64_t ldc, bool add, const float* next_c) {
  sheet_tile<MR, false>(a, ld, b, steps, c, ldc, add, next_c);
}

// `multiply`, its a being a sheet.
static void multiply_sheet(MatmulForm form, bool accumulate, int64_t m, int64_t n, int64_t k, float* out, int64_t ld_out, const float* sheet, int64_t ld,
                           const void* b, int64_t ld_b, const int32_t* rows_b, Causal causal, StoredType type = kFloat) {
  static void (*const tables[2][kTileRows])(const float*, int64_t, const float*, int64_t, float*, int64_t, bool, const float*) = {{SW_ROWS(key_tile)}, {SW_ROWS(row_tile)}};
  if (n % kPanel != 0 || k == 0) return multiply(form, accumulate, m, n, k, out, ld_out, sheet, ld, nullptr, b, ld_b, rows_b, causal, type);
  const Product p = {form, accumulate, m, n, k, out, ld_out, sheet, ld, type, (const char*)b, row_bytes(type, ld_b), nullptr, rows_b, nullptr, 0, causal};
  const Tiles tiles = {m, (m + kTileRows - 1) / kTileRows};
  float* const packed = (float*)scratch(2, kBlockK * (kPanel + kLanes) * sizeof(float));
  for (int64_t k0 = 0; k0 < k; k0 += kBlockK) {
    const int64_t length = k - k0 < kBlockK ? k - k0 : kBlockK;
    const bool add = accumulate || k0 > 0;
    for (int64_t j = 0; j < n; j += kPanel) {
      pack_b<kF32>(packed, packed + kBlockK * kPanel, p, j, kPanel, k0, length);
      for (int64_t t = 0; t < tiles.count; t++) {
        const int64_t first = tiles.start(t), rows = tiles.size(t);
        const Steps steps = causal.group > 0 ? unmasked_within(p, first, first + rows, j, k0, length) : Steps{0, length};
        if (steps.end <= steps.first && add) continue;
        const float* a = sheet + (form == kTN ? (k0 + steps.first) * ld + first : first * ld + k0 + steps.first);
        float* c = out + first * ld_out + j;
        tables[form == kTN][rows - 1](a, ld, packed + steps.first * kPanel, steps.end - steps.first, c, ld_out, add, c + rows * ld_out);
      }
    }
  }
}
