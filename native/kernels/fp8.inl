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

// What is finite, with scales below this, is widened in fewer operations.
constexpr float kSmallScale = 0x1p7f;

typedef int16_t vs __attribute__((vector_size(SW_LANES * 4), may_alias));
typedef uint8_t vb __attribute__((vector_size(SW_LANES * 4), may_alias));

// Elements 0 to 3 of each lane, which are finite, over kMoved: as 16 bits first, exponent and fraction where bfloat16 has them.
template <StoredType T>
constexpr float kMoved = T == kE4m3 ? 0x1p120f : 0x1p112f;
template <StoredType T>
SW_INLINE void fp8_to_floats(vu x, vf* out) {
  constexpr int shift = T == kE4m3 ? 4 : 3;
  constexpr uint32_t kept = T == kE4m3 ? 0x87f087f0 : 0x8fe08fe0;
  const vu even = (vu)((vs)((vs)x << 8) >> shift) & kept, odd = (vu)((vs)x >> shift) & kept;
  out[0] = (vf)(even << 16);
  out[1] = (vf)(odd << 16);
  out[2] = (vf)(even & 0xffff0000);
  out[3] = (vf)(odd & 0xffff0000);
}

// Whether all of 4 * kLanes bytes from `at` on, of so many rows, are finite.
template <StoredType T>
SW_INLINE bool are_finite(const char* const* rows, int count, int64_t at) {
  constexpr uint8_t infinite = T == kE4m3 ? 0xfe : 0xf8;  // as below: twice, without the sign
  vb most = {};
  for (int r = 0; r < count; r++) {
    const vb x = (vb)load(rows[r] + at), magnitude = x + x;
    most = most > magnitude ? most : magnitude;
  }
  return max_lanes((vf)((vu)(most >= infinite) & 0x01010101)) == 0;
}

// use(k, g, x) with x = element k of each of kLanes rows, those of group g, of the block where each begins; k rising, the groups by turns.
template <StoredType T, int GROUPS, class Use>
SW_INLINE void each_fp8(const char* const* rows, Use use) {
  vf scale[GROUPS], most = splat(0);
  SW_UNROLL for (int g = 0; g < GROUPS; g++) {
    float scales[kLanes];
    for (int r = 0; r < kLanes; r++) memcpy(scales + r, rows[g * kLanes + r], sizeof(float));
    scale[g] = load(scales);
    most = maximum(most, maximum(scale[g], -scale[g]));
  }
  const bool small = max_lanes(most) < kSmallScale;
  for (int64_t at = 0; at < kFp8Block; at += 4 * kLanes) {
    vf quads[kLanes][GROUPS];
    SW_UNROLL for (int g = 0; g < GROUPS; g++) {
      transpose_vectors([&](int r) { return load(rows[g * kLanes + r] + sizeof(float) + at); }, [&](int i, vf x) { quads[i][g] = x; });
    }
    if (small && are_finite<T>(rows, GROUPS * kLanes, sizeof(float) + at)) {
      for (int i = 0; i < kLanes; i++) {
        vf x[GROUPS][4];
        SW_UNROLL for (int g = 0; g < GROUPS; g++) fp8_to_floats<T>((vu)quads[i][g], x[g]);
        SW_UNROLL for (int b = 0; b < 4; b++) {
          SW_UNROLL for (int g = 0; g < GROUPS; g++) use(at + 4 * i + b, g, x[g][b] * (scale[g] * splat(kMoved<T>)));
        }
      }
    } else {
      for (int i = 0; i < kLanes; i++) {
        SW_UNROLL for (int b = 0; b < 4; b++) {
          SW_UNROLL for (int g = 0; g < GROUPS; g++) use(at + 4 * i + b, g, fp8_to_float<T>((vu)quads[i][g], b) * scale[g]);
        }
      }
    }
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
    each_fp8<T, 1>(blocks, [&](int64_t i, int, vf x) { store(dst + i * stride, x); });
  }
}

// `n` numbers, whole blocks.
template <StoredType T>
static void widen_fp8(float* out, const char* from, int64_t n) {
  typedef uint8_t bytes __attribute__((vector_size(SW_LANES), aligned(1), may_alias));
  for (; n > 0; n -= kFp8Block, from += row_bytes(T, kFp8Block)) {
    float scale;
    memcpy(&scale, from, sizeof scale);
    for (int64_t i = 0; i < kFp8Block; i += kLanes, out += kLanes) store(out, fp8_to_float<T>(__builtin_convertvector(*(const bytes*)(from + sizeof scale + i), vu), 0) * splat(scale));
  }
}

// `n` numbers of any type that is widened, from any address.
static void widen_stored(float* out, const char* from, StoredType type, int64_t n) {
  if (is_fp8(type)) (type == kE4m3 ? widen_fp8<kE4m3> : widen_fp8<kE5m2>)(out, from, n);
  else widen(out, from, type, n);
}
