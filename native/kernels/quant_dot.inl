// Rows of activations as int8, and exact sums of their products with four unsigned bytes of each column.

// How products are summed, by what the instruction set has:
enum Dot {
  kQuads,   // 4 bytes to an int32 in one instruction (VNNI)
  kShorts,  // 2 bytes to an int16, saturating (maddubs): only for small weights, of which several sums fit before they are widened
  kSigned,  // the same of signed weights' magnitudes and elements that take over their signs (sign_epi8, which AVX-512 does not have); each sum is widened
  kWide,    // 2 int16 to an int32 (madd), the weights' even and odd bytes apart
};

template <StoredType T>
constexpr Dot dot_for() {
#if defined(__AVX512VNNI__) || (SW_LANES == 16 && !defined(__AVX512BW__))
  return kQuads;  // when emulated too
#else
  return SW_LANES >= 8 && Layout<T>::largest < 128 ? kShorts : SW_LANES == 8 ? kSigned : kWide;
#endif
}

// Sums of 2 * 127 * largest that fit in an int16, as a power of two.
constexpr int kept_in_shorts(int largest) { return largest <= 15 ? 8 : largest <= 31 ? 4 : 2; }

// The four bytes at p in every lane.
SW_INLINE vi splat_bits(const void* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return (vi){} + x;
}

SW_INLINE vi quads(vi sum, vu w, vi x) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#else
  for (int i = 0; i < 4; i++) sum += (vi)(w >> 8 * i & 255) * (((vi)((vu)x << (24 - 8 * i))) >> 24);
  return sum;
#endif
}

// a + b of int16, products of unsigned and signed bytes added in pairs to int16, products of int16 added in pairs to int32.
#if SW_LANES == 16 && defined(__AVX512BW__)
SW_INLINE vi add_shorts(vi a, vi b) { return (vi)_mm512_add_epi16((__m512i)a, (__m512i)b); }
SW_INLINE vi shorts(vu w, vi x) { return (vi)_mm512_maddubs_epi16((__m512i)w, (__m512i)x); }
SW_INLINE vi wide(vi w, vi x) { return (vi)_mm512_madd_epi16((__m512i)w, (__m512i)x); }
#elif SW_LANES == 8
SW_INLINE vi add_shorts(vi a, vi b) { return (vi)_mm256_add_epi16((__m256i)a, (__m256i)b); }
SW_INLINE vi shorts(vu w, vi x) { return (vi)_mm256_maddubs_epi16((__m256i)w, (__m256i)x); }
SW_INLINE vi wide(vi w, vi x) { return (vi)_mm256_madd_epi16((__m256i)w, (__m256i)x); }
#elif SW_LANES == 4
SW_INLINE vi add_shorts(vi a, vi) { return a; }
SW_INLINE vi shorts(vu, vi x) { return x; }
SW_INLINE vi wide(vi w, vi x) { return (vi)_mm_madd_epi16((__m128i)w, (__m128i)x); }
#else
SW_INLINE vi add_shorts(vi a, vi) { return a; }
SW_INLINE vi shorts(vu, vi x) { return x; }
SW_INLINE vi wide(vi, vi x) { return x; }
#endif

// Signed bytes times signed ones that are not -128; magnitudes and signs change places, for which -128 is a magnitude that fits.
SW_INLINE vi signed_products(vu w, vi x) {
#if SW_LANES == 8
  return wide(shorts((vu)_mm256_abs_epi8((__m256i)w), (vi)_mm256_sign_epi8((__m256i)x, (__m256i)w)), (vi){} + 0x00010001);
#else
  (void)w;
  return x;
#endif
}

template <Dot D>
struct CodeOf {
  using type = int8_t;
};
template <>
struct CodeOf<kWide> {
  using type = int16_t;
};
// Stops the compiler from adding up a chain of sums as a tree, which would need more registers than there are.
SW_INLINE void keep(vi& x) {
#if SW_LANES <= 8 || defined(__AVX512BW__)
  __asm__("" : "+x"(x));
#else
  (void)x;
#endif
}

// 32 elements of a row of `a`: x = scale * q. For kWide q is int16 and of each four elements 0, 2, 1, 3 stand side by side.
template <Dot D>
struct alignas(16) Run {
  typename CodeOf<D>::type q[32];
  float scale;
  // Per group of elements with one scale of the weight: minus offset * sum of q, where products start; or, of types with minima, the bits of
  // scale * sum of q as f32.
  int32_t start[2];
};

SW_INLINE vi nearest(vf x) {
#if SW_LANES == 16 && defined(__AVX512F__)
  return (vi)_mm512_maskz_cvtps_epi32(0xffff, (__m512)x);  // the plain form makes GCC warn of its own header
#elif SW_LANES == 8
  return (vi)_mm256_cvtps_epi32((__m256)x);
#elif SW_LANES == 4
  return (vi)_mm_cvtps_epi32((__m128)x);
#else
  vi out;
  for (int i = 0; i < kLanes; i++) out[i] = _mm_cvtss_si32(_mm_set_ss(x[i]));
  return out;
#endif
}

// As elevenBits and quantiseRows in src/engine/reference/quantised.ts.
SW_INLINE float eleven_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if (bits < 0x7f800000) bits = (bits + 0x0fff + (bits >> 13 & 1)) & ~0x1fffu;
  memcpy(&x, &bits, 4);
  return x;
}

template <StoredType T>
static void quantise_run(Run<dot_for<T>()>* run, const float* x) {
  using L = Layout<T>;
  uint32_t largest = 0;  // bits of the largest magnitude, those of a NaN being larger than all
  for (int i = 0; i < 32; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    bits &= 0x7fffffff;
    largest = largest > bits ? largest : bits;
  }
  float most, inverse = 0;
  memcpy(&most, &largest, 4);
  const bool zero = most < 0x1p-100f;
  run->scale = zero ? 0 : eleven_bits(most / 127);
  if (!zero) inverse = 127 / most;
  int32_t q[32];
  for (int i = 0; i < 32; i += kLanes) {
    vi rounded = nearest(load(x + i) * inverse);
    memcpy(q + i, &rounded, sizeof rounded);
  }
  for (int g = 0; g < 32 / L::group; g++) {
    int32_t sum = 0;
    for (int i = 0; i < L::group; i++) sum += (int8_t)q[g * L::group + i];
    const float total = run->scale * (float)sum;
    run->start[g] = -L::offset * sum;
    if (L::minima) memcpy(run->start + g, &total, 4);
  }
  for (int i = 0; i < 32; i += 4) {
    const int order[4] = {0, dot_for<T>() == kWide ? 2 : 1, dot_for<T>() == kWide ? 1 : 2, 3};
    for (int j = 0; j < 4; j++) run->q[i + j] = (int8_t)q[i + order[j]];
  }
}

// Adds the products of one row with a group of kLanes columns, the run's g-th and begun with its `start`, to the columns' sums.
template <StoredType T>
SW_INLINE void add_group(vf& sum, const Run<dot_for<T>()>& run, int g, vi products, vf scale, vf minimum) {
  using L = Layout<T>;
  float total;
  memcpy(&total, run.start + g, 4);
  sum += __builtin_convertvector(products, vf) * (scale * run.scale);
  if (L::minima) sum -= minimum * total;
}
