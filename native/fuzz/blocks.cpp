// Rows of any bytes of every stored type: decoded as decode.cpp does, multiplied the same on all instruction sets, row by row and with any threads.
#include <string.h>

#include "../core/pool.h"
#include "fuzz.h"

namespace sw {
namespace {

constexpr int kMostGroups = 3;

// Products of the ragged rows of each group with the matrix of its own.
struct Case {
  StoredType type;
  int64_t rows, n, k;  // rows of all groups
  int groups;
  uint8_t* weights[kMostGroups];
  double addresses[kMostGroups];
  float* decoded;  // of the first matrix
  int32_t* offsets;
  int64_t a_rows;
  float* a;
  int32_t* rows_a;  // or null
  int64_t ld_out, out_count;
  float* start;  // what out holds before
  bool accumulate, bf16;
  int64_t beside;  // rows of each matrix that a product beside it has too; 0: none
};

void hostile_bytes(Random& random, uint8_t* bytes, int64_t count) {
  static const uint8_t edges[] = {0, 0xff, 0x80, 0x7f, 0x7c, 1};
  const int64_t kind = random.below(8);
  if (kind == 0) memset(bytes, edges[random.below(sizeof edges)], count);
  else random.fill(bytes, count);
  if (kind == 1) {
    for (int64_t i = 0; i < count; i += 1 + random.below(8)) bytes[i] = edges[random.below(sizeof edges)];
  }
}

Case make(Random& random, bool large) {
  Case c = {};
  c.type = (StoredType)random.below(kLastType + 1);
  const int elements = kBlockSizes[c.type].elements;
  c.k = elements == 1 ? 1 + random.below(70) : elements * (1 + random.below(elements == 32 ? 6 : 2));
  c.n = 1 + random.below(random.chance(5) ? 40 : 6);
  c.groups = 1 + (int)random.below(kMostGroups);
  if (large) c.k = 512, c.n = 150;
  const int64_t bytes = c.n * row_bytes(c.type, c.k);
  for (int g = 0; g < c.groups; g++) {
    // f32 stands at multiples of 4 bytes, all else anywhere.
    c.weights[g] = (uint8_t*)block(bytes, random.chance(50) ? 0 : c.type == kFloat ? 4 * random.below(4) : random.below(16));
    hostile_bytes(random, c.weights[g], bytes);
    c.addresses[g] = (double)(uintptr_t)c.weights[g];
  }
  c.decoded = array<float>(c.n * c.k);
  decode(c.type, c.weights[0], c.n * c.k / elements, c.decoded);
  c.offsets = array<int32_t>(c.groups + 1);
  c.offsets[0] = 0;
  for (int g = 0; g < c.groups; g++) c.offsets[g + 1] = c.offsets[g] + (int32_t)(large ? 30 : random.below(4));
  c.rows = c.offsets[c.groups];
  c.a_rows = c.rows;
  if (random.chance(50)) {
    c.a_rows = 1 + random.below(3);
    c.rows_a = array<int32_t>(c.rows);
    for (int64_t i = 0; i < c.rows; i++) c.rows_a[i] = (int32_t)random.below(c.a_rows);
  }
  c.a = array<float>(c.a_rows * c.k);
  for (int64_t i = 0; i < c.a_rows * c.k; i++) c.a[i] = (float)random.below(511) - 255;
  if (random.chance(20) && c.a_rows > 0) c.a[random.below(c.a_rows * c.k)] = wild(random);
  c.ld_out = c.n + random.below(3);
  c.out_count = c.rows == 0 ? 0 : (c.rows - 1) * c.ld_out + c.n;
  c.start = array<float>(c.out_count);
  for (int64_t i = 0; i < c.out_count; i++) c.start[i] = (float)random.below(100);
  c.accumulate = random.chance(30);
  c.bf16 = (c.type == kFloat || c.type == kBfloat) && random.chance(30);
  c.beside = random.chance(30) ? 1 + random.below(c.n) : 0;
  return c;
}

void check_rows(const Case& c, const KernelTable& kernels, Random& random) {
  const int64_t m = 1 + random.below(random.chance(10) ? 40 : 5), count = c.n * c.k;
  float* const out = array<float>(m * c.k);
  int32_t* const rows = array<int32_t>(m);
  for (int64_t i = 0; i < m; i++) rows[i] = (int32_t)random.below(c.n + 1) - 1;
  kernels.gather_rows(out, c.weights[0], c.type, rows, m, c.k);
  for (int64_t i = 0; i < m; i++) {
    for (int64_t k = 0; k < c.k; k++) {
      const float want = rows[i] < 0 ? 0 : c.decoded[rows[i] * c.k + k], got = out[i * c.k + k];
      if (!same(got, want)) fail("%s: type %d, row %d, column %lld: decoded as %a, expected %a", kernels.name, c.type, rows[i], (long long)k, (double)got, (double)want);
    }
  }
  if (c.type != kHalf) return;
  uint16_t* const narrowed = array<uint16_t>(count);
  kernels.narrow(narrowed, c.decoded, count);
  for (int64_t i = 0; i < count; i++) {
    if (c.decoded[i] == c.decoded[i] && memcmp(narrowed + i, c.weights[0] + 2 * i, 2) != 0) fail("%s: the f16 number %a is narrowed to 0x%x", kernels.name, (double)c.decoded[i], narrowed[i]);
  }
}

float* product(const Case& c, const KernelTable& kernels) {
  float* const out = array<float>(c.out_count);
  memcpy(out, c.start, c.out_count * sizeof(float));
  Matmul p = {};
  p.form = kNT, p.accumulate = c.accumulate, p.bf16 = c.bf16;
  p.m = c.rows, p.n = c.n, p.k = c.k, p.out = out, p.ld_out = c.ld_out, p.a = c.a, p.rows = c.a_rows, p.type = c.type;
  p.b_E = c.addresses, p.groups = c.groups, p.offsets_E = c.offsets, p.rows_a = c.rows_a;
  Matmul second = p;
  if (c.beside) {
    second.n = c.beside, second.out = array<float>(c.out_count);
    memcpy(second.out, c.start, c.out_count * sizeof(float));
    p.beside = &second;
  }
  kernels.matmul(p);
  for (int64_t i = 0; c.beside && i < c.out_count; i++) {
    const float want = i % c.ld_out < c.beside ? out[i] : c.start[i];
    if (!same(second.out[i], want)) fail("%s: type %d, element %lld beside a product is %a, in it %a", kernels.name, c.type, (long long)i, (double)second.out[i], (double)want);
  }
  return out;
}

// Each row alone, and as one product of its own.
void check_product(const Case& c, const KernelTable& kernels, const float* out) {
  float* const row = array<float>(c.n);
  for (int g = 0; g < c.groups; g++) {
    for (int64_t i = c.offsets[g]; i < c.offsets[g + 1]; i++) {
      memcpy(row, c.start + i * c.ld_out, c.n * sizeof(float));
      Matmul p = {};
      p.form = kNT, p.accumulate = c.accumulate, p.bf16 = c.bf16;
      p.m = p.rows = p.groups = 1;
      p.n = p.ld_out = c.n, p.k = c.k, p.out = row, p.a = c.a + (c.rows_a ? c.rows_a[i] : i) * c.k, p.type = c.type, p.b = c.weights[g];
      kernels.matmul(p);
      for (int64_t j = 0; j < c.ld_out && i * c.ld_out + j < c.out_count; j++) {
        const float got = out[i * c.ld_out + j], want = j < c.n ? row[j] : c.start[i * c.ld_out + j];
        if (!same(got, want)) fail("%s: type %d, row %lld, column %lld of a product is %a, alone it is %a", kernels.name, c.type, (long long)i, (long long)j, (double)got, (double)want);
      }
    }
  }
}

}  // namespace

void fuzz_blocks(Random& random) {
  const bool large = random.below(20'000) == 0;
  const Case c = make(random, large);
  const float* first = nullptr;
  const KernelTable* of = nullptr;
  for (int v = 0; v < variant_count; v++) {
    const KernelTable& kernels = *variants[v];
    check_rows(c, kernels, random);
    set_thread_count(1);
    const float* const out = product(c, kernels);
    check_product(c, kernels, out);
    if (large) {
      set_thread_count(3);
      const float* const shared = product(c, kernels);
      for (int64_t i = 0; i < c.out_count; i++) {
        if (!same(shared[i], out[i])) fail("%s: type %d: a product depends on the threads", kernels.name, c.type);
      }
    }
    // Quantised products are the same chains wherever there are fused multiply-adds.
    if (c.type <= kBfloat || c.type > kMxfp4 || &kernels == variants[0]) continue;
    for (int64_t i = 0; first && i < c.out_count; i++) {
      if (!same(out[i], first[i])) fail("type %d, element %lld of a product: %a with %s, %a with %s", c.type, (long long)i, (double)out[i], kernels.name, (double)first[i], of->name);
    }
    if (!first) first = out, of = &kernels;
  }
}

}  // namespace sw
