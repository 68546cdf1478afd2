// Vectors of kLanes floats through the compiler's vector extensions: bodies are written once and each translation unit
// compiles them for its instruction set. Included inside that unit's namespace. a * b + c on vectors becomes one fused multiply-add
// where the instruction set has it (-ffp-contract=fast).
#pragma once

#define SW_INLINE static inline __attribute__((always_inline))
#define SW_UNROLL _Pragma("GCC unroll 16")

constexpr int kLanes = SW_LANES;

typedef float vf __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));
typedef float v4f __attribute__((vector_size(16), aligned(4), may_alias));

SW_INLINE vf load(const float* p) { return *(const vf*)p; }
SW_INLINE void store(float* p, vf x) { *(vf*)p = x; }
SW_INLINE vf splat(float x) { return x - (vf){}; }

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

// Lanes 4l..4l+3 come from p[l].
SW_INLINE vf gather_quads(const float* const* p, int64_t offset) {
  const auto quad = [&](int l) { return *(const v4f*)(p[l] + offset); };
#if SW_LANES == 4
  return quad(0);
#else
  const auto pair = [&](int l) { return __builtin_shufflevector(quad(l), quad(l + 1), 0, 1, 2, 3, 4, 5, 6, 7); };
#if SW_LANES == 8
  return pair(0);
#else
  return __builtin_shufflevector(pair(0), pair(2), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
#endif
}

// Inside each group of four lanes: low or high elements of a and b interleaved; low or high halves of a and b.
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
