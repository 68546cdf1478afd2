// Packing of matrix operands into the layout of the micro-kernel: for each step of the reduction, the tile's rows (of a) or
// columns (of b) side by side, so that the inner loop reads both in order.

// How operands are stored once packed. kPairs: two consecutive k as bfloat16 in the bits of one float, low half first.
enum Packing { kF32, kRounded, kPairs };

// Rounds to bfloat16, nearest, ties to even; the upper half of each lane is the result. A NaN stays one.
SW_INLINE vu round_bf16(vf x) {
  const vu bits = (vu)x;
  const vu rounded = bits + 0x7fff + (bits >> 16 & 1);
  return x == x ? rounded : bits | 0x400000;
}

// Rows k (low) and k+1 (high) of one operand as kPairs.
SW_INLINE vf pair_rows(vf low, vf high) {
#ifdef __AVX512BF16__
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                         23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (vf)_mm512_permutexvar_epi16(order, both);
#else
  return (vf)((round_bf16(high) & 0xffff0000u) | round_bf16(low) >> 16);
#endif
}

// Two vectors of consecutive k of one row as kPairs, k rising.
SW_INLINE vf pair_columns(vf first, vf second) {
#ifdef __AVX512BF16__
  return (vf)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
#else
  float in[2 * kLanes], out[kLanes];
  store(in, (vf)round_bf16(first));
  store(in + kLanes, (vf)round_bf16(second));
  for (int i = 0; i < kLanes; i++) {
    uint32_t low, high;
    memcpy(&low, in + 2 * i, 4);
    memcpy(&high, in + 2 * i + 1, 4);
    const uint32_t both = (high & 0xffff0000u) | low >> 16;
    memcpy(out + i, &both, 4);
  }
  return load(out);
#endif
}

// give(i, x) with x = element i of each of kLanes rows, i rising; quads[j]: the quads of rows j, j + 4, ...
template <class Give>
SW_INLINE void transpose_within(const vf (*quads)[kLanes / 4], Give give) {
  SW_UNROLL for (int i = 0; i < kLanes; i += 4) {
    const vf r0 = quads[0][i / 4], r1 = quads[1][i / 4], r2 = quads[2][i / 4], r3 = quads[3][i / 4];
    const vf low01 = interleave_low(r0, r1), low23 = interleave_low(r2, r3), high01 = interleave_high(r0, r1), high23 = interleave_high(r2, r3);
    give(i + 0, low_halves(low01, low23));
    give(i + 1, high_halves(low01, low23));
    give(i + 2, low_halves(high01, high23));
    give(i + 3, high_halves(high01, high23));
  }
}

// The same; row(r) is a vector of row r.
template <class Row, class Give>
SW_INLINE void transpose_vectors(Row row, Give give) {
  // Whole vectors are loaded: rows a multiple of 4 KiB apart share a set of the L1, which would not keep them for a second visit.
  vf quads[4][kLanes / 4];
  SW_UNROLL for (int j = 0; j < 4; j++) {
    SW_UNROLL for (int l = 0; l < kLanes / 4; l++) quads[j][l] = row(4 * l + j);
    transpose_quads(quads[j]);
  }
  transpose_within(quads, give);
}

// The same of kLanes vectors in memory, at rows[r] + offset bytes.
template <class Give>
SW_INLINE void transpose_loaded(const char* const* rows, int64_t offset, Give give) {
  vf quads[4][kLanes / 4];
  SW_UNROLL for (int j = 0; j < 4; j++) {
    const float* from[kLanes / 4];
    SW_UNROLL for (int l = 0; l < kLanes / 4; l++) from[l] = (const float*)(rows[4 * l + j] + offset);
    load_quads(quads[j], from);
  }
  transpose_within(quads, give);
}

// dst[i][0..kLanes) = element i of each of kLanes rows, i < kLanes; dst rows `stride` apart.
SW_INLINE void transpose_block(float* dst, int64_t stride, const float* const* rows, int64_t offset) {
  transpose_vectors([&](int r) { return load(rows[r] + offset); }, [&](int i, vf x) { store(dst + i * stride, x); });
}

// One vector of packed elements from position k of a row of `length`, zero beyond its end.
template <Packing P>
SW_INLINE vf packed_piece(const float* row, int64_t k, int64_t length) {
  const auto piece = [&](int64_t at) {
    return at + kLanes <= length ? load(row + at) : load_partial(row + at, at < length ? length - at : 0, 0);
  };
  if (P == kPairs) return pair_columns(piece(k), piece(k + kLanes));
  return P == kRounded ? (vf)(round_bf16(piece(k)) & 0xffff0000u) : piece(k);
}

// Operand whose rows run along k (a of nt and nn, b of nt): transposes kLanes rows of `length`. Pads with zeros to whole vectors.
template <Packing P>
static void pack_transposed(float* dst, int64_t stride, const float* const* rows, int64_t length) {
  constexpr int64_t step = P == kPairs ? 2 * kLanes : kLanes;
  int64_t k = 0;
  if (P == kF32) {
    for (; k + step <= length; k += step, dst += kLanes * stride) transpose_block(dst, stride, rows, k);
  }
  float staged[kLanes][kLanes];
  const float* staged_rows[kLanes];
  for (int i = 0; i < kLanes; i++) staged_rows[i] = staged[i];
  for (; k < length; k += step, dst += kLanes * stride) {
    for (int i = 0; i < kLanes; i++) store(staged[i], packed_piece<P>(rows[i], k, length));
    transpose_block(dst, stride, staged_rows, 0);
  }
}

// Rows of half width, which become f32 after the transposition of pairs: half the shuffles. `length` is a multiple of 2 * kLanes. Asks for the
// rows that lie `ahead` bytes further on.
static void pack_halves(float* dst, int64_t stride, const float* const* rows, StoredType type, int64_t length, int64_t ahead) {
  for (int64_t k = 0; k < length; k += 2 * kLanes, dst += 2 * kLanes * stride) {
    const auto row = [&](int r) {
      const char* from = (const char*)rows[r] + 2 * k;
      __builtin_prefetch(from + ahead, 0, 2);
      return load(from);
    };
    transpose_vectors(row, [&](int i, vf x) {
      store(dst + 2 * i * stride, low_half((vu)x, type));
      store(dst + (2 * i + 1) * stride, high_half((vu)x, type));
    });
  }
}

// Operand whose rows run along m or n (a of tn, b of nn and tn): vector v of each step takes columns [start[v], start[v] + width[v]),
// width[v] <= kLanes, and goes to dst[v], steps `stride` apart. row(k) gives the address of row k.
template <Packing P, class Row>
SW_INLINE void pack_copied(int vectors, float* const* dst, int64_t stride, const int64_t* start, const int64_t* width, int64_t length, Row row) {
  int64_t at = 0;
  for (int64_t k = 0; k < length; k += P == kPairs ? 2 : 1, at += stride) {
    const float *first = row(k), *second = P == kPairs && k + 1 < length ? row(k + 1) : nullptr;
    for (int v = 0; v < vectors; v++) {
      vf x = load_partial(first + start[v], width[v], 0);
      if (P == kRounded) x = (vf)(round_bf16(x) & 0xffff0000u);
      if (P == kPairs) x = pair_rows(x, second ? load_partial(second + start[v], width[v], 0) : splat(0));
      store(dst[v] + at, x);
    }
  }
}
