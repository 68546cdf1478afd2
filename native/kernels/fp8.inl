// 8-bit floats, in blocks of 128 behind an f32 scale (src/quant/fp8.ts): widened exactly, times the scale, rounded once. Products take them as f32.

constexpr int64_t kFp8Block = kBlockSizes[kE4m3].elements;
constexpr bool is_fp8(StoredType type) { return type == kE4m3 || type == kE5m2; }

// Of the four in each lane number `at`.
template <StoredType T>
SW_INLINE vf fp8_to_float(vu x, int at) {
  if (T == kE5m2) return half_to_float((x >> 8 * at & 0xff) << 8);
  // The exponent is moved by a multiplication, as that of binary16.
  const vu magnitude = (at < 3 ? x << (20 - 8 * at) : x >> 4) & 0x07f00000;
  const vu scaled = (vu)((vf)magnitude * splat(0x1p120f));
  return (vf)((magnitude == 0x07f00000 ? (vu){} + 0x7fc00000 : scaled) | (x << (24 - 8 * at) & 0x80000000));
}

// use(k, x) with x = element k of each of kLanes rows, of the block where each begins; k rising.
template <StoredType T, class Use>
SW_INLINE void each_fp8(const char* const* rows, Use use) {
  float scales[kLanes];
  for (int r = 0; r < kLanes; r++) memcpy(scales + r, rows[r], sizeof(float));
  const vf scale = load(scales);
  for (int64_t at = 0; at < kFp8Block; at += 4 * kLanes) {
    transpose_vectors(
        [&](int r) { return load(rows[r] + sizeof(float) + at); },
        [&](int i, vf x) {
          SW_UNROLL for (int b = 0; b < 4; b++) use(at + 4 * i + b, fp8_to_float<T>((vu)x, b) * scale);
        });
  }
}

// As pack_transposed, `length` being whole blocks. Asks for the rows that lie `ahead` bytes further on.
template <StoredType T>
static void pack_fp8(float* dst, int64_t stride, const char* const* rows, int64_t length, int64_t ahead) {
  for (int64_t k = 0; k < length; k += kFp8Block, dst += kFp8Block * stride) {
    const char* blocks[kLanes];
    for (int r = 0; r < kLanes; r++) {
      blocks[r] = rows[r] + row_bytes(T, k);
      for (int64_t at = 0; at < row_bytes(T, kFp8Block); at += 64) __builtin_prefetch(blocks[r] + ahead + at, 0, 2);
    }
    each_fp8<T>(blocks, [&](int64_t i, vf x) { store(dst + i * stride, x); });
  }
}

// `n` numbers, whole blocks.
template <StoredType T>
static void widen_fp8(float* out, const char* from, int64_t n) {
  typedef uint8_t vb __attribute__((vector_size(SW_LANES), aligned(1), may_alias));
  for (; n > 0; n -= kFp8Block, from += row_bytes(T, kFp8Block)) {
    float scale;
    memcpy(&scale, from, sizeof scale);
    for (int64_t i = 0; i < kFp8Block; i += kLanes, out += kLanes) store(out, fp8_to_float<T>(__builtin_convertvector(*(const vb*)(from + sizeof scale + i), vu), 0) * splat(scale));
  }
}

// `n` numbers of any type that is widened, from any address.
static void widen_stored(float* out, const char* from, StoredType type, int64_t n) {
  if (is_fp8(type)) (type == kE4m3 ? widen_fp8<kE4m3> : widen_fp8<kE5m2>)(out, from, n);
  else widen(out, from, type, n);
}
