// One row times a matrix in form nt, bound by memory: columns are multiplied as they are transposed, with no packed panel between. The chains are those
// of the micro-kernel.

// sum + the products of a with the elements of kLanes rows, a vector of each (of pairs for half widths); `ahead` bytes further on are asked for.
template <bool HALVES>
SW_INLINE vf add_products(vf sum, const float* a, const char* const* rows, int64_t offset, StoredType type, int64_t ahead) {
  const auto row = [&](int r) {
    __builtin_prefetch(rows[r] + offset + ahead, 0, 2);
    return load_unaligned(rows[r] + offset);
  };
  transpose_vectors(row, [&](int i, vf x) {
    if (!HALVES) {
      sum += splat(a[i]) * x;
      return;
    }
    sum += splat(a[2 * i]) * low_half((vu)x, type);
    sum += splat(a[2 * i + 1]) * high_half((vu)x, type);
  });
  return sum;
}

// Columns [j0, j1) of row i.
template <StoredType T>
static void row_block(const Product& p, int64_t i, int64_t j0, int64_t j1) {
  constexpr int64_t step = T == kFloat ? kLanes : 2 * kLanes;
  const int64_t whole = p.k / step * step, left = p.k - whole;
  const float* a = p.row_a(i);
  float* out = p.out + i * p.ld_out;
  for (int64_t j = j0; j < j1; j += kLanes) {
    const char* rows[kLanes];
    for (int r = 0; r < kLanes; r++) rows[r] = p.stored_row(j + r < j1 ? j + r : j);
    vf sum = p.accumulate ? load(out + j, j1 - j) : splat(0);
    for (int64_t k = 0; k < whole; k += step) sum = add_products<T != kFloat>(sum, a + k, rows, row_bytes(T, k), T, kLanes * p.ld_b);
    float rest[kLanes][2 * kLanes];
    for (int r = 0; left > 0 && r < kLanes; r++) {
      const char* from = rows[r] + row_bytes(T, whole);
      if (T == kFloat) memcpy(rest[r], from, left * sizeof(float));
      else widen(rest[r], from, T, left);
    }
    for (int64_t k = 0; k < left; k++) {
      vf x;
      for (int r = 0; r < kLanes; r++) x[r] = rest[r][k];
      sum += splat(a[whole + k]) * x;
    }
    store(out + j, sum, j1 - j);
  }
}
