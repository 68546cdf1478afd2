// Numbers of half width, in the low 16 bits of each lane, to f32; exact.

SW_INLINE vf bfloat_to_float(vu x) { return (vf)(x << 16); }

// binary16. The exponent is moved by a multiplication, which also makes subnormal numbers normal.
SW_INLINE vf half_to_float(vu x) {
#if SW_LANES == 16 && defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(0xffff, _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)x));
#elif SW_LANES == 8 && defined(__F16C__)
  return (vf)_mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1)));
#endif
  const vu magnitude = (x & 0x7fff) << 13;
  const vu scaled = (vu)((vf)magnitude * splat(0x1p112f));
  return (vf)((magnitude >= 0x0f800000 ? scaled | 0x7f800000 : scaled) | (x & 0x8000) << 16);
}

// Of the two numbers in each lane.
SW_INLINE vf low_half(vu x, StoredType type) { return type == kBfloat ? bfloat_to_float(x) : half_to_float(x & 0xffff); }
SW_INLINE vf high_half(vu x, StoredType type) { return type == kBfloat ? (vf)(x & 0xffff0000) : half_to_float(x >> 16); }

// kLanes 16-bit numbers, one per lane.
SW_INLINE vu load_u16(const uint16_t* p) {
  typedef uint16_t vh __attribute__((vector_size(SW_LANES * 2), aligned(1), may_alias));
  return __builtin_convertvector(*(const vh*)p, vu);
}

// f32 to binary16, nearest, ties to even; too large becomes infinite, NaN stays NaN.
SW_INLINE vu float_to_half(vf x) {
  const vu bits = (vu)x, magnitude = bits & 0x7fffffff;
  const vu normal = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;  // the carry reaches the exponent, and infinity
  const vu subnormal = (vu)((vf)magnitude + 0.5f) - 0x3f000000;                      // the last bit of 0.5 is worth 2^-24, binary16's least
  const vu finite = magnitude < 0x38800000 ? subnormal : magnitude < 0x47800000 ? normal : (vu){} + 0x7c00;
  return (magnitude > 0x7f800000 ? (vu){} + 0x7e00 : finite) | (bits >> 16 & 0x8000);
}

// kLanes numbers of a type that kernels widen as they go, kFloat or kHalf; of which only `n` exist, the rest being zero.
template <StoredType T>
SW_INLINE vf load_as(const char* p) {
  if (T == kFloat) return load((const float*)p);
#if SW_LANES == 16 && defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p));  // unmasked, GCC 12 warns of its own header
#elif SW_LANES == 8 && defined(__F16C__)
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
  return half_to_float(load_u16((const uint16_t*)p));
#endif
}
template <StoredType T>
SW_INLINE vf load_as(const char* p, int64_t n) {
  if (n >= kLanes) return load_as<T>(p);
  if (T == kFloat) return load_partial((const float*)p, n, 0);
  uint16_t rest[kLanes] = {};
  memcpy(rest, p, 2 * n);
  return load_as<T>((const char*)rest);
}

// `n` numbers from any address.
static void widen(float* out, const char* from, StoredType type, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    uint16_t rest[kLanes] = {};
    if (n - i < kLanes) memcpy(rest, from + 2 * i, 2 * (n - i));
    const vu x = load_u16(n - i < kLanes ? rest : (const uint16_t*)(from + 2 * i));
    store(out + i, type == kHalf ? half_to_float(x) : bfloat_to_float(x), n - i);
  }
}
