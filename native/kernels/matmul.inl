static void matmul(const Matmul& p) {
  for (int64_t e = 0; e < p.groups; e++) {
    const int64_t first = p.offsets_E ? p.offsets_E[e] : 0;
    const int64_t rows = p.offsets_E ? p.offsets_E[e + 1] - first : p.form == kTN ? p.k : p.m;
    const int64_t m = p.form == kTN ? p.m : rows, k = p.form == kTN ? rows : p.k, n = p.n;
    const float* b = p.form == kTN ? p.b : p.b + e * n * k;
    float* out = p.form == kTN ? p.out + e * m * n : p.out + first * n;
    for (int64_t i = 0; i < m; i++) {
      for (int64_t j = 0; j < n; j++) {
        float sum = p.accumulate ? out[i * n + j] : 0;
        for (int64_t l = 0; l < k; l++) {
          const int64_t row = p.form == kTN ? l : i;
          const int64_t ra = p.rows_a ? p.rows_a[first + row] : first + row, rb = p.rows_b ? p.rows_b[first + l] : first + l;
          const float x = p.form == kTN ? p.a[ra * m + i] : p.a[ra * k + l];
          const float y = p.form == kNT ? b[j * k + l] : p.form == kNN ? b[l * n + j] : b[rb * n + j];
          sum += x * y;
        }
        out[i * n + j] = sum;
      }
    }
  }
}
