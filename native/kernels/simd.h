// Vectors of kLanes floats through the compiler's vector extensions: bodies are written once and each translation unit
// compiles them for its instruction set. Included inside that unit's namespace. a * b + c on vectors becomes one fused multiply-add
// where the instruction set has it (-ffp-contract=fast).
#pragma once

#define SW_INLINE static inline __attribute__((always_inline))
#define SW_MEMBER inline __attribute__((always_inline))
#define SW_UNROLL _Pragma("GCC unroll 16")
#define SW_ROLLED _Pragma("GCC unroll 1")

constexpr int kLanes = SW_LANES;

typedef float vf __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));

// From any address.
SW_INLINE vf load(const void* p) {
  typedef float vf1 __attribute__((vector_size(SW_LANES * 4), aligned(1), may_alias));
  return *(const vf1*)p;
}
SW_INLINE void store(float* p, vf x) { *(vf*)p = x; }
// Past the caches, which need not read the line first. p: a multiple of the vector's size. Other threads see the stores after finish_past().
SW_INLINE void store_past(float* p, vf x) {
#if SW_LANES == 16 && defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)x);
#elif SW_LANES == 8
  _mm256_stream_ps(p, (__m256)x);
#else
  store(p, x);
#endif
}
SW_INLINE void finish_past() { _mm_sfence(); }
SW_INLINE vf splat(float x) { return x - (vf){}; }

// Half a vector.
typedef float vh __attribute__((vector_size(SW_LANES * 2), aligned(4), may_alias));
#if SW_LANES == 4
#define SW_LOW_LANES 0, 1
#define SW_HIGH_LANES 2, 3
#elif SW_LANES == 8
#define SW_LOW_LANES 0, 1, 2, 3
#define SW_HIGH_LANES 4, 5, 6, 7
#else
#define SW_LOW_LANES 0, 1, 2, 3, 4, 5, 6, 7
#define SW_HIGH_LANES 8, 9, 10, 11, 12, 13, 14, 15
#endif
SW_INLINE vh lower(vf x) { return __builtin_shufflevector(x, x, SW_LOW_LANES); }
SW_INLINE vh upper(vf x) { return __builtin_shufflevector(x, x, SW_HIGH_LANES); }
SW_INLINE vf join(vh low, vh high) { return __builtin_shufflevector(low, high, SW_LOW_LANES, SW_HIGH_LANES); }
#undef SW_LOW_LANES
#undef SW_HIGH_LANES

// sum + a * b; or plus both products of the bfloat16 PAIRS in each lane, the odd one first.
template <bool PAIRS>
SW_INLINE vf add_product(vf sum, vf a, vf b) {
#ifdef __AVX512BF16__
  if (PAIRS) return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
  return sum + a * b;
}

// The same, in the register of `sum`: of unrolled products GCC would move sums from register to register.
template <bool PAIRS>
SW_INLINE vf add_product_in_place(vf sum, vf a, vf b) {
#if SW_LANES == 8 && defined(__OPTIMIZE__)  // else nothing is fused
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  return sum;
#else
  return add_product<PAIRS>(sum, a, b);
#endif
}

// Lane i of the result is lane (i & kAnd) ^ kXor of x.
template <int kAnd, int kXor>
SW_INLINE vf permute(vf x) {
#define SW_LANE(i) (((i) & kAnd) ^ kXor)
#define SW_FOUR(i) SW_LANE(i), SW_LANE(i + 1), SW_LANE(i + 2), SW_LANE(i + 3)
#if SW_LANES == 4
  return __builtin_shufflevector(x, x, SW_FOUR(0));
#elif SW_LANES == 8
  return __builtin_shufflevector(x, x, SW_FOUR(0), SW_FOUR(4));
#else
  return __builtin_shufflevector(x, x, SW_FOUR(0), SW_FOUR(4), SW_FOUR(8), SW_FOUR(12));
#endif
#undef SW_FOUR
#undef SW_LANE
}

// 0, 1, 2, ...
SW_INLINE vi lane_index() {
  vi x;
  for (int i = 0; i < kLanes; i++) x[i] = i;
  return x;
}

// Quads: groups of four lanes. x[i] becomes quad i of x[0], x[1], ... side by side: a transposition of quads.
SW_INLINE void transpose_quads(vf* x) {
#if SW_LANES == 8
  const vf a = x[0], b = x[1];
  x[0] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
  x[1] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
#elif SW_LANES == 16
#define SW_LOW(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define SW_HIGH(a, b) __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#define SW_EVEN(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define SW_ODD(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)
  const vf low01 = SW_LOW(x[0], x[1]), low23 = SW_LOW(x[2], x[3]), high01 = SW_HIGH(x[0], x[1]), high23 = SW_HIGH(x[2], x[3]);
  x[0] = SW_EVEN(low01, low23);
  x[1] = SW_ODD(low01, low23);
  x[2] = SW_EVEN(high01, high23);
  x[3] = SW_ODD(high01, high23);
#undef SW_LOW
#undef SW_HIGH
#else
  (void)x;
#endif
}

// The same of the vectors at rows[0], rows[1], ..., whose halves come side by side as they are loaded: half the shuffles for twice the loads.
SW_INLINE void load_quads(vf* x, const float* const* rows) {
#if SW_LANES == 16 && defined(__AVX512F__)
  const auto halves = [&](int r, int at) {
    return (vf)_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(rows[r] + at)), _mm256_loadu_ps(rows[r + 1] + at), 1);
  };
  const vf low01 = halves(0, 0), high01 = halves(0, 8), low23 = halves(2, 0), high23 = halves(2, 8);
  x[0] = SW_EVEN(low01, low23);
  x[1] = SW_ODD(low01, low23);
  x[2] = SW_EVEN(high01, high23);
  x[3] = SW_ODD(high01, high23);
#else
  SW_UNROLL for (int l = 0; l < kLanes / 4; l++) x[l] = load(rows[l]);
  transpose_quads(x);
#endif
}
#undef SW_EVEN
#undef SW_ODD

// Inside each quad: low or high elements of a and b interleaved; low or high halves of a and b.
#if SW_LANES == 4
#define SW_IN_QUADS(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#define SW_B 4
#elif SW_LANES == 8
#define SW_IN_QUADS(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4)
#define SW_B 8
#else
#define SW_IN_QUADS(a, b, i, j, k, l) \
  __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, i + 12, j + 12, k + 12, l + 12)
#define SW_B 16
#endif
SW_INLINE vf interleave_low(vf a, vf b) { return SW_IN_QUADS(a, b, 0, SW_B, 1, SW_B + 1); }
SW_INLINE vf interleave_high(vf a, vf b) { return SW_IN_QUADS(a, b, 2, SW_B + 2, 3, SW_B + 3); }
SW_INLINE vf low_halves(vf a, vf b) { return SW_IN_QUADS(a, b, 0, 1, SW_B, SW_B + 1); }
SW_INLINE vf high_halves(vf a, vf b) { return SW_IN_QUADS(a, b, 2, 3, SW_B + 2, SW_B + 3); }
#undef SW_IN_QUADS
#undef SW_B
