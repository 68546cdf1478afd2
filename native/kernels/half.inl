// Numbers of half width, in the low 16 bits of each lane, to f32; exact.

SW_INLINE vf bfloat_to_float(vu x) { return (vf)(x << 16); }

// binary16. The exponent is moved by a multiplication, which also makes subnormal numbers normal.
SW_INLINE vf half_to_float(vu x) {
#if SW_LANES == 16 && defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(0xffff, _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)x));
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

// `n` numbers from any address.
static void widen(float* out, const char* from, StoredType type, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    uint16_t rest[kLanes] = {};
    if (n - i < kLanes) memcpy(rest, from + 2 * i, 2 * (n - i));
    const vu x = load_u16(n - i < kLanes ? rest : (const uint16_t*)(from + 2 * i));
    store(out + i, type == kHalf ? half_to_float(x) : bfloat_to_float(x), n - i);
  }
}
