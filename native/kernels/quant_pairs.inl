// One row times quantised weights with AVX2: 16 bytes of each of two rows, in one vector, are multiplied where they lie in their blocks, and what belongs to a row is
// added up afterwards. For groups of 32 that takes fewer instructions than to transpose the weights first; the sums are exact, so the results are the same.

#if SW_LANES == 8
// 16 elements of a row of `a`, for both rows.
SW_INLINE vi for_both(const int8_t* a) { return (vi)_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)a)); }

template <StoredType T>
SW_INLINE vi pair_products(vu w, vi a) {
  return dot_for<T>() == kSigned ? signed_products(w, a) : shorts(w, a);
}
template <StoredType T>
SW_INLINE vi add_sums(vi a, vi b) {
  return dot_for<T>() == kSigned ? a + b : add_shorts(a, b);
}

// Lane r: the sum of all products of row r, of which pairs[r % 4] has those of rows r and r + 4.
template <StoredType T>
SW_INLINE vi sums_of_rows(const vi* pairs) {
  const auto half = [&](vi a, vi b) {
    const vi sum = add_sums<T>((vi)low_halves((vf)a, (vf)b), (vi)high_halves((vf)a, (vf)b));
    return (__m256)(dot_for<T>() == kSigned ? sum : wide(sum, (vi){} + 0x00010001));
  };
  const __m256 a = half(pairs[0], pairs[1]), b = half(pairs[2], pairs[3]);
  return (vi)_mm256_shuffle_ps(a, b, 0x88) + (vi)_mm256_shuffle_ps(a, b, 0xdd);
}

// Adds to `sum` the group's products.
template <StoredType T>
SW_INLINE void add_pairs(vf& sum, const Run<dot_for<T>()>& run, int g, const vi* pairs, vf scale, vf minimum) {
  const vi products = sums_of_rows<T>(pairs);
  add_group<T>(sum, run, g, Layout<T>::offset ? products + run.start[g] : products, scale, minimum);
}

// 16 for each bit that is set of bits [16 * half, 16 * half + 16) of either row's `bits`, a byte each.
SW_INLINE vu fifth_bits(vu bits, int half) {
  const __m256i spread = _mm256_set_epi64x(0x0101010101010101, 0, 0x0101010101010101, 0), each = _mm256_set1_epi64x((int64_t)0x8040201008040201);
  const __m256i set = _mm256_and_si256(_mm256_shuffle_epi8((__m256i)bits, _mm256_add_epi8(spread, _mm256_set1_epi8((char)(2 * half)))), each);
  return (vu)_mm256_and_si256(_mm256_cmpeq_epi8(set, each), _mm256_set1_epi8(16));
}

// A group of 32 elements, with its codes, a nibble or a byte each, `at` bytes after the rows' addresses; fifth bits stand in the four bytes before them.
template <StoredType T>
SW_INLINE void add_block(vf& sum, const Run<dot_for<T>()>& run, Rows rows, int64_t at, vf scale, vf minimum) {
  const vi low_a = for_both(run.q), high_a = for_both(run.q + 16);
  vi pairs[4];
  SW_UNROLL for (int j = 0; j < 4; j++) {
    const vu bytes = (vu)load_quads(rows, j, at);
    vu low = bytes & kNibbles, high = bytes >> 4 & kNibbles;
    if (T == kQ8_0) low = bytes, high = (vu)load_quads(rows, j, at + 16);
    if (Layout<T>::nonlinear) low = look_up(kIq4Table, low), high = look_up(kIq4Table, high);
    if (T == kMxfp4) low = look_up(kE2M1Table, low), high = look_up(kE2M1Table, high);
    if (T == kQ5_0 || T == kQ5_1) {
      const vu bits = (vu)load_quads(rows, j, at - 4);
      low |= fifth_bits(bits, 0), high |= fifth_bits(bits, 1);
    }
    pairs[j] = add_sums<T>(pair_products<T>(low, low_a), pair_products<T>(high, high_a));
  }
  add_pairs<T>(sum, run, 0, pairs, scale, minimum);
}

// What eight rows' blocks begin with, their scales, or what follows those; reads 64 bits of each.
template <StoredType T>
SW_INLINE vf block_scales(Rows rows, int64_t at) {
  const auto two = [&](int r) {
    double x[2];
    for (int i = 0; i < 2; i++) memcpy(x + i, rows[r + i] + at, sizeof(double));
    return _mm_castpd_ps(_mm_set_pd(x[1], x[0]));
  };
  const auto four = [&](int r) { return _mm_and_si128(_mm_castps_si128(_mm_shuffle_ps(two(r), two(r + 2), 0x88)), _mm_set1_epi32(T == kMxfp4 ? 0xff : 0xffff)); };
  const __m128i low = four(0), high = four(4);
  return T == kMxfp4 ? half_e8m0((vu)_mm256_set_m128i(high, low)) : (vf)_mm256_cvtph_ps(_mm_packus_epi32(low, high));
}

// Adds to `sum` the products of `blocks` blocks of 32 elements, at most those of a chunk.
template <StoredType T>
SW_INLINE void add_blocks(vf& sum, Rows rows, const Run<dot_for<T>()>* a, int blocks) {
  constexpr int bytes = kBlockSizes[T].bytes, codes = bytes - (T == kQ8_0 ? 32 : 16);
  SW_UNROLL for (int b = 0; b < kChunk / 32 && b < blocks; b++) {
    rows.template ask<bytes>(bytes * b);
    const vf scale = block_scales<T>(rows, bytes * b), minimum = Layout<T>::minima ? -block_scales<T>(rows, bytes * b + 2) : splat(0);
    add_block<T>(sum, a[b], rows, bytes * b + codes, scale, minimum);
  }
}

SW_INLINE void add_iq4xs(vf& sum, Rows rows, const Run<kSigned>* a) {
  const Iq4Scales scales(rows);
  SW_UNROLL for (int g = 0; g < 8; g++) {
    rows.ask<17>(17 * g);
    add_block<kIq4XS>(sum, a[g], rows, 8 + 16 * g, scales.scale(g), splat(0));
  }
}

// q4_k and q5_k: two groups at a time, whose nibbles share bytes.
template <StoredType T>
SW_INLINE void add_scaled_nibbles(vf& sum, Rows rows, const Run<kShorts>* a) {
  constexpr int part = kBlockSizes[T].bytes / 8;
  const NibbleScales scales(rows);
  SW_UNROLL for (int g = 0; g < 8; g += 2) {
    vi even[4], odd[4];
    SW_UNROLL for (int half = 0; half < 2; half++) {
      rows.template ask<part>(part * (g + half));
      const vi even_a = for_both(a[g].q + 16 * half), odd_a = for_both(a[g + 1].q + 16 * half);
      SW_UNROLL for (int j = 0; j < 4; j++) {
        const vu bytes = (vu)load_quads(rows, j, (T == kQ5K ? 48 : 16) + 16 * g + 16 * half);
        vu low = bytes & kNibbles, high = bytes >> 4 & kNibbles;
        if (T == kQ5K) {
          const vu bits = (vu)load_quads(rows, j, 16 + 16 * half);
          low |= fifth_bit(bits, g), high |= fifth_bit(bits, g + 1);
        }
        const vi first = shorts(low, even_a), second = shorts(high, odd_a);
        even[j] = half ? add_shorts(even[j], first) : first;
        odd[j] = half ? add_shorts(odd[j], second) : second;
      }
    }
    add_pairs<T>(sum, a[g], 0, even, scales.scale(g), scales.minimum(g));
    add_pairs<T>(sum, a[g + 1], 0, odd, scales.scale(g + 1), scales.minimum(g + 1));
  }
}

// Adds to `sum` the products of `steps` steps of eight rows.
template <StoredType T>
SW_INLINE void add_pairs_of_rows(vf& sum, Rows rows, const Run<dot_for<T>()>* a, int64_t steps) {
  if constexpr (T == kQ4K || T == kQ5K) add_scaled_nibbles<T>(sum, rows, a);
  else if constexpr (T == kIq4XS) add_iq4xs(sum, rows, a);
  else add_blocks<T>(sum, rows, a, steps / 32);
}
#endif
