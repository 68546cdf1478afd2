// Elementary functions of vectors beyond exp. The polynomials are minimax fits of relative error, made for these intervals.

SW_INLINE vf vabs(vf x) { return (vf)((vi)x & 0x7fffffff); }
SW_INLINE vf with_sign(vf magnitude, vf x) { return (vf)((vi)magnitude | ((vi)x & (int32_t)0x80000000)); }

// log(x) within 2 ulp; -infinity at 0, NaN below. x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
SW_INLINE vf vlog(vf x) {
  const vi tiny = x < 1.17549435e-38f;
  const vf scaled = select(tiny, x * 8388608.0f, x);
  const vi half_up = (vi)scaled - 0x3f3504f3;  // bits of sqrt(1/2): the exponent field now rounds as wanted
  const vi e = (half_up >> 23) - (tiny & 23);
  const vf f = (vf)((half_up & 0x007fffff) + 0x3f3504f3) - 1.0f;
  vf p = splat(-7.634429634e-2f);
  p = p * f + 1.276154965e-1f;
  p = p * f - 1.316019446e-1f;
  p = p * f + 1.420176178e-1f;
  p = p * f - 1.662335694e-1f;
  p = p * f + 2.000122666e-1f;
  p = p * f - 2.500082254e-1f;
  p = p * f + 3.333333135e-1f;
  const vf n = __builtin_convertvector(e, vf);
  const vf f2 = f * f;
  // ln 2 in two parts, the larger one exact in 9 bits.
  const vf result = n * 0.693359375f + (f + (n * -2.12194440e-4f + f2 * (f * p - 0.5f)));
  const vf edge = select(x == 0, splat(-__builtin_inff()), select(x == __builtin_inff(), x, splat(__builtin_nanf(""))));
  return select((x > 0) & (x < __builtin_inff()), result, edge);
}

SW_INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }

// Within 4 ulp: an odd polynomial near 0, elsewhere from the exponential.
SW_INLINE vf vtanh(vf x) {
  const vf z = vabs(x);
  const vf u = x * x;
  vf p = splat(-5.704978481e-3f);
  p = p * u + 2.063907869e-2f;
  p = p * u - 5.373971164e-2f;
  p = p * u + 1.333144158e-1f;
  p = p * u - 3.333328068e-1f;
  const vf far = 1.0f - 2.0f / (vexp(z + z) + 1.0f);
  return select(z < 0.625f, x + x * u * p, with_sign(far, x));
}

// max(x, 0) + log(1 + exp(-|x|)); the quotient gives back what rounding 1 + exp took.
SW_INLINE vf vsoftplus(vf x) {
  const vf u = vexp(-vabs(x));
  const vf w = 1.0f + u;
  return select(x < 0, splat(0), x) + (vlog(w) + (u - (w - 1.0f)) / w);
}

// Distribution function and density of the standard normal. The tail is exp(-z^2/2) h(t) / (1 + z) with h a polynomial in
// t = (z - 4) / (z + 4), which maps [0, infinity) to [-1, 1) (after Shepherd and Laframboise 1981).
SW_INLINE void normal_cdf(vf x, vf* cdf, vf* density) {
  const vf magnitude = vabs(x);
  const vf z = select(magnitude > 15.0f, splat(15), magnitude);
  const vf t = (z - 4.0f) / (z + 4.0f);
  vf h = splat(9.414551459e-5f);
  h = h * t + 7.349047228e-4f;
  h = h * t - 4.035831953e-4f;
  h = h * t - 5.054637324e-3f;
  h = h * t + 1.796194166e-2f;
  h = h * t - 3.218499944e-2f;
  h = h * t + 2.859807573e-2f;
  h = h * t + 1.399869844e-2f;
  h = h * t - 9.670341015e-2f;
  h = h * t + 4.720532298e-1f;
  const vf e = vexp(z * z * -0.5f);
  const vf tail = e * h / (1.0f + z);
  *cdf = select(x < 0, tail, 1.0f - tail);
  *density = e * 0.398942280f;
}

// cos(2 pi t) for t in [-1/2, 1), exact at multiples of 1/4: sin(2 pi q) of q = 1/4 - |t - round(t)|.
SW_INLINE vf cos_turns(vf t) {
  const vf q = 0.25f - vabs(select(t > 0.5f, t - 1.0f, t));
  const vf u = q * q;
  vf p = splat(3.971091843e1f);
  p = p * u - 7.657498932e1f;
  p = p * u + 8.160223389e1f;
  p = p * u - 4.134167862e1f;
  p = p * u + 6.283185482f;
  return q * p;
}
