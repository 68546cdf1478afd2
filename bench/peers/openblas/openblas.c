// The peer of the matrix benchmarks: one sgemm per expert, as a loop over experts would call it, rows of `a` already gathered.
// openblas FORM N K ROUNDS ROWS...: FORM nt (a[m,K] b[N,K]^T), nn (a[m,K] b[K,N]) or tn (a[m,N]^T b[m,K], one [N,K] result per expert).
// Prints seconds per round, one line each; threads as OPENBLAS_NUM_THREADS says.
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static float* filled(size_t n) {
  float* x = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
  for (size_t i = 0; i < n; i++) x[i] = (float)(i % 1000) / 1000 - 0.5f;
  return x;
}

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  const char* form = argv[1];
  const int n = atoi(argv[2]), k = atoi(argv[3]), rounds = atoi(argv[4]), experts = argc - 5, tn = !strcmp(form, "tn");
  size_t rows = 0;
  for (int e = 0; e < experts; e++) rows += atoi(argv[5 + e]);
  const size_t left = tn ? n : k, right = tn ? k : n;  // columns of a; columns of the row-wise second operand or result
  float *a = filled(rows * left), *w = filled((size_t)experts * n * k), *y = filled(rows * right);
  for (int round = 0; round <= rounds; round++) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    size_t row = 0;
    for (int e = 0; e < experts; e++) {
      const int m = atoi(argv[5 + e]);
      float* we = w + (size_t)e * n * k;
      if (m == 0) continue;
      if (tn) cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, k, m, 1, a + row * left, n, y + row * right, k, 0, we, k);
      else cblas_sgemm(CblasRowMajor, CblasNoTrans, !strcmp(form, "nt") ? CblasTrans : CblasNoTrans, m, n, k, 1, a + row * left, k, we, !strcmp(form, "nt") ? k : n, 0, y + row * right, n);
      row += m;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (round > 0) printf("%.9f\n", (end.tv_sec - start.tv_sec) + (end.tv_nsec - start.tv_nsec) * 1e-9);
  }
}
