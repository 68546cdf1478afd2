// Elementary functions of vectors.

SW_INLINE vf select(vi mask, vf yes, vf no) { return mask ? yes : no; }
SW_INLINE vf maximum(vf a, vf b) { return select(a > b, a, b); }

// The first `n` of kLanes elements at p, `other` in the rest; 0 <= n <= kLanes. Touches nothing beyond.
SW_INLINE vf load_partial(const float* p, int64_t n, float other) {
#if SW_LANES == 16 && defined(__AVX512F__)
  return (vf)_mm512_mask_loadu_ps((__m512)splat(other), (__mmask16)((1u << n) - 1), p);
#elif SW_LANES == 8 && defined(__AVX2__)
  const vi present = (vi){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)n;
  return select(present, (vf)_mm256_maskload_ps(p, (__m256i)present), splat(other));
#else
  float lanes[kLanes];
  for (int i = 0; i < kLanes; i++) lanes[i] = i < n ? p[i] : other;
  return load(lanes);
#endif
}
SW_INLINE void store_partial(float* p, vf x, int64_t n) {
#if SW_LANES == 16 && defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#elif SW_LANES == 8 && defined(__AVX2__)
  const vi present = (vi){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)n;
  _mm256_maskstore_ps(p, (__m256i)present, (__m256)x);
#else
  float lanes[kLanes];
  store(lanes, x);
  for (int64_t i = 0; i < n; i++) p[i] = lanes[i];
#endif
}

// Reductions over lanes, always in this order: halves are folded onto each other.
template <class F>
SW_INLINE float fold_lanes(vf x, F f) {
#if SW_LANES == 16
  x = f(x, permute<~0, 8>(x));
#endif
#if SW_LANES >= 8
  x = f(x, permute<~0, 4>(x));
#endif
  x = f(x, permute<~0, 2>(x));
  return f(x, permute<~0, 1>(x))[0];
}
SW_INLINE float sum_lanes(vf x) {
  return fold_lanes(x, [](vf a, vf b) { return a + b; });
}
SW_INLINE float max_lanes(vf x) {
  return fold_lanes(x, [](vf a, vf b) { return maximum(a, b); });
}

// exp(x) within 2 ulp; 0 below -86.6 and infinity above 88.72. x = n ln 2 + r, |r| <= ln(2) / 2 (Cody and Waite 1980), exp(r) by the
// polynomial of Cephes' expf.
SW_INLINE vf vexp(vf x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  #if SW_LANES == 16 && defined(__AVX512F__)
  const float least = -104, most = 89;  // beyond them scaling gives 0 and infinity by itself
#else
  const float least = -86.6f, most = 88.72f;
#endif
  const vf clamped = select(x < least, splat(least), select(x > most, splat(most), x));
  const vf shifted = clamped * 1.44269504f + magic;
  const vf n = shifted - magic;
  const vf r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
#if SW_LANES == 16 && defined(__AVX512F__)
  return (vf)_mm512_mask_scalef_ps((__m512)p, 0xffff, (__m512)p, (__m512)n);
#else
  const vf half_power = (vf)((((vi)shifted - (vi)splat(magic)) + 126) << 23);  // 2^(n-1): n may be 128
  const vf result = p * half_power * 2.0f;
  return select(x < least, splat(0), select(x > most, splat(__builtin_inff()), result));
#endif
}

SW_INLINE vf vsqrt(vf x) {
  vf result;
  for (int i = 0; i < kLanes; i++) ((float*)&result)[i] = __builtin_sqrtf(((float*)&x)[i]);
  return result;
}
