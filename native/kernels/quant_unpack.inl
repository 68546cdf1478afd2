// Quantised weights from the blocks of the file to panels that products read in order. A panel holds kChunk steps of k of kPanelColumns rows
// of the weight (columns of the result): four consecutive k of each column side by side as unsigned bytes, kPanelVectors vectors per four k,
// and per 16 or 32 k each column's scale and minimum. Layouts of the blocks: src/engine/reference/blocks.ts.

constexpr int kChunk = 256;
constexpr int kPanelVectors = SW_LANES >= 8 ? 2 : 1;
constexpr int kPanelColumns = kPanelVectors * kLanes;

struct alignas(64) Panel {
  vu q[kChunk / 4][kPanelVectors];
  vf scale[kChunk / 16][kPanelVectors];
  vf minimum[kChunk / 16][kPanelVectors];
};

// What products must know of a type: elements with one scale; what to take from the unsigned values; whether there are minima; their largest value.
template <StoredType T>
struct Layout {
  static constexpr bool nonlinear = T == kIq4NL || T == kIq4XS;
  static constexpr int group = T == kQ2K || T == kQ3K || T == kQ6K ? 16 : 32;
  static constexpr int offset = T == kQ4_0 ? 8 : T == kQ5_0 ? 16 : T == kQ8_0 || nonlinear ? 128 : T == kQ3K ? 4 : T == kQ6K ? 32 : T == kMxfp4 ? 12 : 0;
  static constexpr bool minima = T == kQ4_1 || T == kQ5_1 || T == kQ2K || T == kQ4K || T == kQ5K;
  static constexpr int largest = T == kQ8_0 || nonlinear ? 255 : T == kQ6K ? 63 : T == kQ5_0 || T == kQ5_1 || T == kQ5K ? 31 : T == kMxfp4 ? 24 : 15;
};

// Addresses of a vector's rows of weights, at the first block of a chunk, and where what will be read next lies: `at` bytes after each of `places` addresses.
// `at` is added by each request: if the addresses were ready, g++ would move all requests of a block to its front, and memory drops what comes in one burst.
struct Rows {
  const uint8_t* const* rows;
  const char* ahead[kRequests];
  int places;
  int64_t at;

  const uint8_t* operator[](int r) const { return rows[r]; }
  // Asks for as many bytes there as [from, from + BYTES) of each row: for the lines that begin there, so that none is asked for again by the next part.
  template <int BYTES>
  __attribute__((always_inline)) void ask(int64_t from) const {
    const int64_t first = (from * kLanes + 63) / 64, end = (from + BYTES) * kLanes;
    SW_UNROLL for (int line = 0; line < (BYTES * kLanes + 63) / 64; line++) {
      const int64_t byte = 64 * (first + line);
      SW_UNROLL for (int i = 0; i < kRequests; i++) {
        if (i < places && byte < end) __builtin_prefetch(ahead[i] + (at + byte), 0, 2);
      }
    }
  }
};

// 16 bytes of each of kLanes / 4 rows side by side: of rows j, j + 4, j + 8, ...
SW_INLINE vf load_quads(Rows rows, int j, int64_t offset) {
  typedef float v4 __attribute__((vector_size(16), aligned(1), may_alias));
#define SW_ROW(l) *(const v4*)(rows[4 * (l) + j] + offset)
#if SW_LANES == 4
  return SW_ROW(0);
#else
  const auto low = __builtin_shufflevector(SW_ROW(0), SW_ROW(1), 0, 1, 2, 3, 4, 5, 6, 7);
#if SW_LANES == 8
  return low;
#else
  const auto high = __builtin_shufflevector(SW_ROW(2), SW_ROW(3), 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
#endif
#undef SW_ROW
}

// Four consecutive dwords of kLanes rows from any address: lane r of x[i] is dword i of row r.
SW_INLINE void load_dwords(Rows rows, int64_t offset, vu* x) {
  vf quads[4];
  SW_UNROLL for (int j = 0; j < 4; j++) quads[j] = load_quads(rows, j, offset);
  const vf low01 = interleave_low(quads[0], quads[1]), low23 = interleave_low(quads[2], quads[3]);
  const vf high01 = interleave_high(quads[0], quads[1]), high23 = interleave_high(quads[2], quads[3]);
  x[0] = (vu)low_halves(low01, low23);
  x[1] = (vu)high_halves(low01, low23);
  x[2] = (vu)low_halves(high01, high23);
  x[3] = (vu)high_halves(high01, high23);
}

// The 16-bit number of each row from any address: to memory, because a vector made of them at once would wait for them.
SW_INLINE void copy_u16(Rows rows, int64_t offset, uint16_t* to) {
  for (int r = 0; r < kLanes; r++) memcpy(to + r, rows[r] + offset, 2);
}
SW_INLINE vu load_u16(Rows rows, int64_t offset) {
  uint16_t lanes[kLanes];
  copy_u16(rows, offset, lanes);
  return load_u16(lanes);
}
SW_INLINE vu load_u32(Rows rows, int64_t offset) { return load_u16(rows, offset) | load_u16(rows, offset + 2) << 16; }

constexpr uint32_t kNibbles = 0x0f0f0f0f;
SW_INLINE vf to_float(vu x) { return __builtin_convertvector((vi)x, vf); }
// Byte i of each lane, unsigned and signed.
SW_INLINE vu byte_of(vu x, int i) { return x >> 8 * i & 255; }
SW_INLINE vf signed_byte(vu x, int i) { return __builtin_convertvector((vi)(x << (24 - 8 * i)) >> 24, vf); }

// Entry `nibble` of a table of 16 bytes, for each byte.
SW_INLINE vu look_up(const uint8_t* table, vu nibbles) {
#if SW_LANES == 16 && defined(__AVX512BW__)
  return (vu)_mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128((const __m128i*)table)), (__m512i)nibbles);
#elif SW_LANES == 8
  return (vu)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)), (__m256i)nibbles);
#else
  uint8_t bytes[kLanes * 4];
  memcpy(bytes, &nibbles, sizeof bytes);
  for (int i = 0; i < kLanes * 4; i++) bytes[i] = table[bytes[i]];
  memcpy(&nibbles, bytes, sizeof bytes);
  return nibbles;
#endif
}

// Steps of the formats' values plus 128; twice the values of E2M1 plus 12.
constexpr uint8_t kIq4Table[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
constexpr uint8_t kE2M1Table[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// 2^(e - 128) of byte e.
SW_INLINE vf half_e8m0(vu e) { return (vf)(e >= 2 ? (e - 1) << 23 : (e + 1) << 21); }

// Unpacking gives a sink vectors of four consecutive k of each row, of steps of four k, and ends each group of elements with one scale: groups in
// rising order, each after its steps, whose order within it rises. Rows of the weight become columns of a panel:
struct PanelSink {
  static constexpr bool one_row = false;
  Panel& panel;
  int v;

  void give(int step, vu q) { panel.q[step][v] = q; }
  void end(int g, vf scale, vf minimum) {
    panel.scale[g][v] = scale;
    panel.minimum[g][v] = minimum;
  }
};

// Eight blocks of 32 whose scale, a half, stands before their values: two of them are a whole number of dwords, so that scales come out of the same
// transposed vectors as the values. For one row; panels are made more slowly this way.
template <StoredType T, class Sink>
SW_INLINE void unpack_after_halves(Sink& to, Rows rows) {
  constexpr int bytes = kBlockSizes[T].bytes, words = bytes / 4;
  vu x[4];
  SW_UNROLL for (int pair = 0; pair < 4; pair++) {
    vu both[2 * words + 1];
    SW_UNROLL for (int i = 0; i <= 2 * words; i++) {
      const int at = pair * (2 * words + 1) + i;
      if (at % 4 == 0) load_dwords(rows, at / 4 * 16, x);
      both[i] = x[at % 4];
    }
    SW_UNROLL for (int second = 0; second < 2; second++) {
      const int b = 2 * pair + second;
      rows.template ask<bytes>(bytes * b);
      SW_UNROLL for (int i = 0; i < words; i++) {
        const vu q = second ? both[words + 1 + i] : both[i] >> 16 | both[i + 1] << 16;
        if (T == kQ8_0) {
          to.give(8 * b + i, q ^ 0x80808080);
          continue;
        }
        const vu low = q & kNibbles, high = q >> 4 & kNibbles;
        to.give(8 * b + i, T == kIq4NL ? look_up(kIq4Table, low) : low);
        to.give(8 * b + 4 + i, T == kIq4NL ? look_up(kIq4Table, high) : high);
      }
      to.end(b, half_to_float(second ? both[words] >> 16 : both[0] & 0xffff), splat(0));
    }
  }
}

// `blocks` blocks of 32.
template <StoredType T, class Sink>
SW_INLINE void unpack_simple(Sink& to, Rows rows, int blocks) {
  constexpr int bytes = kBlockSizes[T].bytes, scales = T == kMxfp4 ? 1 : Layout<T>::minima ? 4 : 2;
  constexpr bool fifth = T == kQ5_0 || T == kQ5_1;
  if constexpr (Sink::one_row && (T == kQ4_0 || T == kQ8_0 || T == kIq4NL)) {
    if (blocks == kChunk / 32) return unpack_after_halves<T>(to, rows);
  }
  uint16_t scale[kChunk / 32][kLanes], minimum[kChunk / 32][kLanes];
  for (int b = 0; b < blocks; b++) {
    copy_u16(rows, (int64_t)b * bytes, scale[b]);
    if (Layout<T>::minima) copy_u16(rows, (int64_t)b * bytes + 2, minimum[b]);
  }
  for (int b = 0; b < blocks; b++) {
    const int64_t at = (int64_t)b * bytes;
    rows.template ask<bytes>(at);
    vu x[4], high = {};
    if (fifth) high = load_u32(rows, at + scales);
    load_dwords(rows, at + scales + (fifth ? 4 : 0), x);
    SW_UNROLL for (int i = 0; i < 8; i++) {
      if (T == kQ8_0) {
        if (i == 4) load_dwords(rows, at + scales + 16, x);
        to.give(8 * b + i, x[i & 3] ^ 0x80808080);
        continue;
      }
      vu q = (i < 4 ? x[i] : x[i - 4] >> 4) & kNibbles;
      if (fifth) q |= ((high >> 4 * i & 15) * 0x00204081 & 0x01010101) << 4;  // four bits to four bytes
      if (T == kIq4NL) q = look_up(kIq4Table, q);
      if (T == kMxfp4) q = look_up(kE2M1Table, q);
      to.give(8 * b + i, q);
    }
    const vu bits = load_u16(scale[b]);
    to.end(b, T == kMxfp4 ? half_e8m0(bits & 255) : half_to_float(bits), Layout<T>::minima ? -half_to_float(load_u16(minimum[b])) : splat(0));
  }
}

// q4_k and q5_k.
template <bool FIFTH, class Sink>
SW_INLINE void unpack_scaled_nibbles(Sink& to, Rows rows) {
  vu head[4], x[4], fifth[8];
  load_dwords(rows, 0, head);
  const vf d = half_to_float(head[0] & 0xffff), dmin = half_to_float(head[0] >> 16);
  const vu scales[2] = {head[1] & 0x3f3f3f3f, (head[3] & kNibbles) | (head[1] >> 6 & 0x03030303) << 4};
  const vu minima[2] = {head[2] & 0x3f3f3f3f, (head[3] >> 4 & kNibbles) | (head[2] >> 6 & 0x03030303) << 4};
  if (FIFTH) {
    load_dwords(rows, 16, fifth);
    load_dwords(rows, 32, fifth + 4);
  }
  SW_UNROLL for (int quad = 0; quad < 8; quad++) {  // 16 elements of each of two groups
    constexpr int part = (FIFTH ? 176 : 144) / 8;
    const int low = quad / 2 * 2;
    rows.template ask<part>(part * quad);
    load_dwords(rows, (FIFTH ? 48 : 16) + 16 * quad, x);
    SW_UNROLL for (int i = 0; i < 4; i++) {
      const int at = quad % 2 * 4 + i;
      vu even = x[i] & kNibbles, odd = x[i] >> 4 & kNibbles;
      if (FIFTH) {
        even |= (fifth[at] >> low & 0x01010101) << 4;
        odd |= (fifth[at] >> (low + 1) & 0x01010101) << 4;
      }
      to.give(8 * low + at, even);
      to.give(8 * low + 8 + at, odd);
    }
    if (quad % 2 == 0) continue;
    SW_UNROLL for (int j = low; j < low + 2; j++) {
      to.end(j, d * to_float(byte_of(scales[j / 4], j % 4)), dmin * to_float(byte_of(minima[j / 4], j % 4)));
    }
  }
}

// Two-bit fields of the 32 bytes at `offset`, half `half` of 256 elements: use(step, fields). Asks for 2 * ASK bytes of each row from `asked` on.
template <int ASK, class Use>
SW_INLINE void unpack_pairs(Rows rows, int half, int64_t offset, int64_t asked, Use use) {
  SW_UNROLL for (int quad = 0; quad < 2; quad++) {
    vu x[4];
    rows.template ask<ASK>(asked + ASK * quad);
    load_dwords(rows, offset + 16 * quad, x);
    SW_UNROLL for (int t = 0; t < 4; t++) {
      SW_UNROLL for (int i = 0; i < 4; i++) use(8 * (half * 4 + t) + quad * 4 + i, x[i] >> 2 * t & 0x03030303);
    }
  }
}

// The scales, which stand at the end of a block, are read last: memory is faster when it is read as it lies.
template <class Sink>
SW_INLINE void unpack_q6(Sink& to, Rows rows) {
  vu scales[4], first[4], second[4], high[4];
  SW_UNROLL for (int half = 0; half < 2; half++) {
    SW_UNROLL for (int quad = 0; quad < 2; quad++) {  // 16 elements of every other group of the half
      const int step = 32 * half + 4 * quad, at = 53 * (2 * half + quad);
      rows.ask<18>(at);
      load_dwords(rows, 64 * half + 16 * quad, first);
      rows.ask<18>(at + 18);
      load_dwords(rows, 64 * half + 16 * quad + 32, second);
      rows.ask<17>(at + 36);
      load_dwords(rows, 128 + 32 * half + 16 * quad, high);
      SW_UNROLL for (int i = 0; i < 4; i++) {
        to.give(step + i, (first[i] & kNibbles) | (high[i] << 4 & 0x30303030));
        to.give(step + 8 + i, (second[i] & kNibbles) | (high[i] << 2 & 0x30303030));
        to.give(step + 16 + i, (first[i] >> 4 & kNibbles) | (high[i] & 0x30303030));
        to.give(step + 24 + i, (second[i] >> 4 & kNibbles) | (high[i] >> 2 & 0x30303030));
      }
    }
  }
  load_dwords(rows, 192, scales);
  const vf d = half_to_float(load_u16(rows, 208));
  SW_UNROLL for (int g = 0; g < 16; g++) to.end(g, d * signed_byte(scales[g / 4], g % 4), splat(0));
}

template <class Sink>
SW_INLINE void unpack_q3(Sink& to, Rows rows) {
  const vf d = half_to_float(load_u16(rows, 108));
  const vu low[2] = {load_u32(rows, 96), load_u32(rows, 100)}, high = load_u32(rows, 104);
  vu mask[8];
  load_dwords(rows, 0, mask);
  load_dwords(rows, 16, mask + 4);
  SW_UNROLL for (int half = 0; half < 2; half++) {
    unpack_pairs<28>(rows, half, 32 + 32 * half, 56 * half, [&](int step, vu q) { to.give(step, q | (mask[step % 8] >> step / 8 & 0x01010101) << 2); });
    SW_UNROLL for (int j = 8 * half; j < 8 * half + 8; j++) {
      const vu scale = (byte_of(low[j / 4 % 2], j % 4) >> j / 8 * 4 & 15) | (byte_of(high, j % 4) >> j / 4 * 2 & 3) << 4;
      to.end(j, d * (to_float(scale) - 32), splat(0));
    }
  }
}

template <class Sink>
SW_INLINE void unpack_q2(Sink& to, Rows rows) {
  const vf d = half_to_float(load_u16(rows, 80)), dmin = half_to_float(load_u16(rows, 82));
  vu x[4];
  load_dwords(rows, 0, x);
  SW_UNROLL for (int half = 0; half < 2; half++) {
    unpack_pairs<21>(rows, half, 16 + 32 * half, 42 * half, [&](int step, vu q) { to.give(step, q); });
    SW_UNROLL for (int j = 8 * half; j < 8 * half + 8; j++) {
      const vu both = byte_of(x[j / 4], j % 4);
      to.end(j, d * to_float(both & 15), dmin * to_float(both >> 4));
    }
  }
}

template <class Sink>
SW_INLINE void unpack_iq4xs(Sink& to, Rows rows) {
  const vf d = half_to_float(load_u16(rows, 0));
  const vu high = load_u16(rows, 2), low = load_u32(rows, 4);
  SW_UNROLL for (int j = 0; j < 8; j++) {
    vu x[4];
    rows.ask<17>(17 * j);
    load_dwords(rows, 8 + 16 * j, x);
    SW_UNROLL for (int i = 0; i < 8; i++) to.give(8 * j + i, look_up(kIq4Table, (i < 4 ? x[i] : x[i - 4] >> 4) & kNibbles));
    to.end(j, d * (to_float((low >> 4 * j & 15) | (high >> 2 * j & 3) << 4) - 32), splat(0));
  }
}

// `steps` (a multiple of 32, at most kChunk, and kChunk for types with blocks of 256) of k of one vector's rows.
template <StoredType T, class Sink>
SW_INLINE void unpack(Sink& to, Rows rows, int64_t steps) {
  if constexpr (T == kQ4K || T == kQ5K) unpack_scaled_nibbles<T == kQ5K>(to, rows);
  else if constexpr (T == kQ6K) unpack_q6(to, rows);
  else if constexpr (T == kQ3K) unpack_q3(to, rows);
  else if constexpr (T == kQ2K) unpack_q2(to, rows);
  else if constexpr (T == kIq4XS) unpack_iq4xs(to, rows);
  else unpack_simple<T>(to, rows, steps / 32);
}
template <StoredType T>
static void unpack(Panel& panel, int v, const uint8_t* const* rows, const char* ahead, int64_t steps) {
  PanelSink sink = {panel, v};
  unpack<T>(sink, {rows, {ahead}, 1, 0}, steps);
}
