// Vectors of kLanes floats through the compiler's vector extensions: bodies are written once and each translation unit
// compiles them for its instruction set. Included inside that unit's namespace. a * b + c on vectors becomes one fused multiply-add
// where the instruction set has it (-ffp-contract=fast).
#pragma once

#define SW_INLINE static inline __attribute__((always_inline))

constexpr int kLanes = SW_LANES;

typedef float vf __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(SW_LANES * 4), aligned(4), may_alias));

SW_INLINE vf load(const float* p) { return *(const vf*)p; }
SW_INLINE void store(float* p, vf x) { *(vf*)p = x; }
SW_INLINE vf splat(float x) { return x - (vf){}; }
