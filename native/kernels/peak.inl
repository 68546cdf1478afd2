// The most multiply-adds that this core can do: independent chains in registers, enough to cover the latency.
SW_INLINE vf opaque(vf x) {
#if SW_LANES == 16 && !defined(__AVX512F__)
  __asm__("" : "+m"(x));  // emulated: no register is this wide
#else
  __asm__("" : "+x"(x));
#endif
  return x;
}

static double peak(int64_t iterations, Peak of) {
  constexpr int chains = 12;
  vf sum[chains], x = opaque(splat(0)), y = opaque(splat(1));
  SW_UNROLL for (int i = 0; i < chains; i++) sum[i] = opaque(splat(0));
  double flops = 2;
#ifdef __AVX512BF16__
  if (of == kBf16Peak) {
    flops = 4;
    for (int64_t n = 0; n < iterations; n++) {
      SW_UNROLL for (int i = 0; i < chains; i++) sum[i] = opaque((vf)_mm512_dpbf16_ps((__m512)sum[i], (__m512bh)x, (__m512bh)y));
    }
  }
#endif
  if (of == kInt8Peak) {
    flops = 8;
    for (int64_t n = 0; n < iterations; n++) {
      SW_UNROLL for (int i = 0; i < chains; i++) {
#if defined(__AVX512VNNI__) || (SW_LANES == 16 && !defined(__AVX512BW__))
        sum[i] = opaque((vf)quads((vi)sum[i], (vu)x, (vi)x));
#elif SW_LANES >= 8
        sum[i] = opaque((vf)((vi)sum[i] + wide(shorts((vu)x, (vi)sum[i]), (vi)x)));
#else
        sum[i] = opaque((vf)(wide((vi)sum[i], (vi)x) + wide((vi)x, (vi)sum[i])));
#endif
      }
    }
  } else if (flops == 2) {
    for (int64_t n = 0; n < iterations; n++) {
      SW_UNROLL for (int i = 0; i < chains; i++) sum[i] = opaque(sum[i] + x * y);
    }
  }
  vf all = sum[0];
  for (int i = 1; i < chains; i++) all += sum[i];
  return sum_lanes(all) == 0 ? flops * chains * kLanes * iterations : 0;
}
