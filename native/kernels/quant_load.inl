// Rows of quantised weights, read kLanes at a time: dwords and halves of each of them side by side, whatever their alignment.

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
  SW_MEMBER void ask(int64_t from) const {
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

// The formats' values plus kByteOffset; twice the values of E2M1 plus 12.
#define SW_IQ4(x) (uint8_t)(x + kByteOffset)
constexpr uint8_t kIq4Table[16] = {SW_IQ4(-127), SW_IQ4(-104), SW_IQ4(-83), SW_IQ4(-65), SW_IQ4(-49), SW_IQ4(-35), SW_IQ4(-22), SW_IQ4(-10),
                                   SW_IQ4(1),    SW_IQ4(13),   SW_IQ4(25),  SW_IQ4(38),  SW_IQ4(53),  SW_IQ4(69),  SW_IQ4(89),  SW_IQ4(113)};
#undef SW_IQ4
constexpr uint8_t kE2M1Table[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// 2^(e - 128) of byte e.
SW_INLINE vf half_e8m0(vu e) { return (vf)(e >= 2 ? (e - 1) << 23 : (e + 1) << 21); }
